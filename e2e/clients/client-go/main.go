// Stock client-go against the API server of $KUBECONFIG: each step says what it did; the first that fails ends the program.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

const (
	namespace = "client-go"
	patience  = 60 * time.Second
	protobuf  = "application/vnd.kubernetes.protobuf"
)

// What all steps share.
type bench struct {
	context.Context
	config *rest.Config
	typed  kubernetes.Interface
	wire   *wire
}

var steps = []struct {
	name string
	run  func(*bench) error
}{
	{"discovery: groups, resources, OpenAPI v2 and v3, REST mapping", discover},
	{"typed clients, in protobuf", typed},
	{"subresources: scale, status, eviction", subresources},
	{"errors as apimachinery tells them apart, conflicts", failures},
	{"apply configurations: extract, conflict, force", apply},
	{"dynamic client", dynamicClient},
	{"metadata client", metadataClient},
	{"pages: limit, continue, the pager", pages},
	{"watches: bookmarks, WatchList, RetryWatcher, UntilWithSync", watches},
	{"informers: typed, dynamic, metadata; over a watch that breaks", informers},
	{"leader election", election},
	{"events: recorders of both groups", events},
	{"tokens: TokenRequest, TokenReview, what a token may do", tokens},
}

func main() {
	klog.SetLogger(klog.Logger{})
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "FAIL %v\n", err)
		os.Exit(1)
	}
}

func run() error {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return err
	}
	config.QPS = -1
	config.ContentType = protobuf
	config.AcceptContentTypes = protobuf + ",application/json"
	wire := &wire{}
	config.Dial = wire.dial
	config.Wrap(wire.wrap)
	typed, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	b := &bench{ctx, config, typed, wire}
	if err := b.begin(); err != nil {
		return fmt.Errorf("namespace: %w", err)
	}
	for _, step := range steps {
		begun := time.Now()
		if err := step.run(b); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		fmt.Printf("ok   %s (%d ms)\n", step.name, time.Since(begun).Milliseconds())
	}
	return b.typed.CoreV1().Namespaces().Delete(b, namespace, metav1.DeleteOptions{})
}

// A namespace of its own, with the account that pods need.
func (b *bench) begin() error {
	_, err := b.typed.CoreV1().Namespaces().Create(b, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	return b.eventually("the default service account", func() (bool, error) {
		_, err := b.typed.CoreV1().ServiceAccounts(namespace).Get(b, "default", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		return err == nil, err
	})
}

func (b *bench) eventually(what string, done func() (bool, error)) error {
	err := wait.PollUntilContextTimeout(b, 50*time.Millisecond, patience, true, func(context.Context) (bool, error) { return done() })
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// check fails unless it holds.
func check(holds bool, what string, arguments ...any) error {
	if holds {
		return nil
	}
	return fmt.Errorf("not so: "+what, arguments...)
}

func all(errs ...error) error { return errors.Join(errs...) }

// What passes between client and server: it can be cut, and is counted.
type wire struct {
	sync.Mutex
	connections []net.Conn
	// Answers in protobuf, in anything else but text; requests that ask a watch for what is there.
	binary, other, watchLists, lists atomic.Int64
}

func (w *wire) dial(ctx context.Context, network, address string) (net.Conn, error) {
	connection, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err == nil {
		w.Lock()
		w.connections = append(w.connections, connection)
		w.Unlock()
	}
	return connection, err
}

func (w *wire) cut() {
	w.Lock()
	defer w.Unlock()
	for _, connection := range w.connections {
		connection.Close()
	}
	w.connections = nil
}

func (w *wire) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(request *http.Request) (*http.Response, error) {
		query := request.URL.Query()
		if query.Get("sendInitialEvents") == "true" {
			w.watchLists.Add(1)
		} else if request.Method == http.MethodGet && query.Get("watch") != "true" && query.Has("resourceVersion") {
			w.lists.Add(1)
		}
		answer, err := next.RoundTrip(request)
		if err == nil && strings.HasPrefix(answer.Header.Get("Content-Type"), protobuf) {
			w.binary.Add(1)
		} else if err == nil {
			w.other.Add(1)
		}
		return answer, err
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }
