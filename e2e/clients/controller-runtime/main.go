// A stock controller-runtime operator on the API server of $KUBECONFIG: its kinds, their webhooks, its reconciler; and what
// a user of them sees. The webhooks are served on loopback.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"strings"
	"time"

	"go.uber.org/zap/zapcore"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
)

const (
	namespace = "controller-runtime"
	finalizer = "boats.example.com/harbour"
	patience  = 60 * time.Second
)

func main() {
	klog.SetLogger(klog.Logger{})
	ctrl.SetLogger(zap.New(zap.Level(zapcore.DPanicLevel)))
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "FAIL %v\n", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, apiextensionsv1.AddToScheme, AddToScheme} {
		if err := add(scheme); err != nil {
			return err
		}
	}
	direct, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return err
	}
	certificate, authority, err := certify()
	if err != nil {
		return fmt.Errorf("a certificate of its own: %w", err)
	}
	address, err := freePort()
	if err != nil {
		return err
	}
	base := fmt.Sprintf("https://127.0.0.1:%d", address)
	if err := direct.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}); err != nil {
		return err
	}
	if err := envtest.WaitForCRDs(config, definitions(base, authority), envtest.CRDInstallOptions{}); err == nil {
		return fmt.Errorf("the kinds are there already")
	}
	if _, err := envtest.InstallCRDs(config, envtest.CRDInstallOptions{CRDs: definitions(base, authority), MaxTime: patience}); err != nil {
		return fmt.Errorf("the definition of the kind: %w", err)
	}
	say("the CustomResourceDefinition is established, as envtest has it")
	manager, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:                        scheme,
		LeaderElection:                true,
		LeaderElectionID:              "boats.example.com",
		LeaderElectionNamespace:       namespace,
		LeaderElectionReleaseOnCancel: true,
		Metrics:                       server.Options{BindAddress: "0"},
		WebhookServer: webhook.NewServer(webhook.Options{Host: "127.0.0.1", Port: address, TLSOpts: []func(*tls.Config){
			func(config *tls.Config) {
				config.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return certificate, nil }
			},
		}}),
	})
	if err != nil {
		return err
	}
	if err := manager.GetFieldIndexer().IndexField(ctx, &Boat{}, "spec.owner", func(object client.Object) []string {
		return []string{object.(*Boat).Spec.Owner}
	}); err != nil {
		return err
	}
	reconciler := &reconciler{manager.GetClient(), manager.GetScheme(), manager.GetEventRecorder("boats")}
	if err := ctrl.NewControllerManagedBy(manager).For(&Boat{}).Owns(&corev1.ConfigMap{}).Complete(reconciler); err != nil {
		return err
	}
	if err := ctrl.NewWebhookManagedBy(manager, &Boat{}).WithDefaulter(hooks{}).WithValidator(hooks{}).Complete(); err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- manager.Start(running) }()
	select {
	case <-manager.Elected():
	case err := <-ended:
		return fmt.Errorf("the manager: %w", err)
	case <-time.After(patience):
		return fmt.Errorf("the manager leads not")
	}
	say("the manager leads, by a Lease")
	if err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, patience, true, func(context.Context) (bool, error) {
		return manager.GetWebhookServer().StartedChecker()(nil) == nil, nil
	}); err != nil {
		return fmt.Errorf("the webhooks' server: %w", err)
	}
	for _, hook := range configurations(base, authority) {
		if err := direct.Create(ctx, hook); err != nil {
			return err
		}
	}
	u := &user{ctx, direct, manager.GetClient()}
	for _, step := range []struct {
		name string
		run  func() error
	}{
		{"the mutating webhook sets what is left out", u.defaults},
		{"the validating webhook refuses, and warns", u.refusals},
		{"the reconciler makes what belongs to it, and says so in the status", u.reconciled},
		{"what it owns comes again when somebody deletes it", u.again},
		{"the cached client finds by an index", u.index},
		{"the conversion webhook shows the other version", u.conversion},
		{"CreateOrUpdate, patches of both kinds, apply", u.changes},
		{"a finalizer ends before the object goes, which takes what it owns", u.end},
	} {
		if err := step.run(); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		say(step.name)
	}
	stop()
	if err := <-ended; err != nil {
		return fmt.Errorf("the manager's end: %w", err)
	}
	say("the manager ends, and gives up its Lease")
	for _, hook := range configurations(base, authority) {
		if err := direct.Delete(ctx, hook); err != nil {
			return err
		}
	}
	if err := envtest.UninstallCRDs(config, envtest.CRDInstallOptions{CRDs: definitions(base, authority)}); err != nil {
		return err
	}
	return direct.Delete(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}})
}

func say(line string) { fmt.Println("ok   " + line) }

// What a user of the operator does, and sees.
type user struct {
	context.Context
	direct, cached client.Client
}

func boat(name, owner string) *Boat {
	return &Boat{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: BoatSpec{Owner: owner}}
}

func (u *user) eventually(what string, done func() (bool, error)) error {
	err := wait.PollUntilContextTimeout(u, 50*time.Millisecond, patience, true, func(context.Context) (bool, error) { return done() })
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// until asks the server, past the cache.
func (u *user) until(what string, object client.Object, done func() bool) error {
	return u.eventually(what, func() (bool, error) {
		if err := u.direct.Get(u, client.ObjectKeyFromObject(object), object); err != nil {
			return false, client.IgnoreNotFound(err)
		}
		return done(), nil
	})
}

func (u *user) defaults() error {
	anna, bert := boat("anna", "ann"), boat("bert", "ann")
	if err := u.direct.Create(u, anna); err != nil {
		return err
	}
	bert.Spec.Length = 12
	if err := u.direct.Create(u, bert); err != nil {
		return err
	}
	if anna.Spec.Length != 5 || bert.Spec.Length != 12 || anna.Generation != 1 {
		return fmt.Errorf("lengths %d, %d", anna.Spec.Length, bert.Spec.Length)
	}
	return nil
}

func (u *user) refusals() error {
	err := u.direct.Create(u, boat("carl", "nobody"))
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "nobody owns no boats") {
		return fmt.Errorf("created: %v", err)
	}
	anna := boat("anna", "ann")
	if err := u.direct.Get(u, client.ObjectKeyFromObject(anna), anna); err != nil {
		return err
	}
	anna.Spec.Owner = "bob"
	err = u.direct.Update(u, anna)
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "owners stay") {
		return fmt.Errorf("changed: %v", err)
	}
	// The schema speaks before the webhook, and a rule of it in CEL.
	err = u.direct.Create(u, &Boat{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "dora"}, Spec: BoatSpec{Owner: "ann", Length: 500}})
	if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "a boat, not a ship") {
		return fmt.Errorf("against its schema: %v", err)
	}
	return nil
}

func (u *user) reconciled() error {
	anna := boat("anna", "")
	if err := u.until("the status", anna, func() bool { return anna.Status.Phase == "Afloat" && anna.Status.ObservedGeneration == anna.Generation }); err != nil {
		return err
	}
	papers := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "anna-papers"}}
	if err := u.direct.Get(u, client.ObjectKeyFromObject(papers), papers); err != nil {
		return err
	}
	if !metav1.IsControlledBy(papers, anna) || !controllerutil.ContainsFinalizer(anna, finalizer) {
		return fmt.Errorf("owners %v, finalizers %v", papers.OwnerReferences, anna.Finalizers)
	}
	return u.eventually("an event", func() (bool, error) {
		events := &corev1.EventList{}
		err := u.direct.List(u, events, client.InNamespace(namespace), client.MatchingFields{"involvedObject.name": "anna"})
		return err == nil && len(events.Items) > 0 && events.Items[0].Reason == "Launched", err
	})
}

func (u *user) again() error {
	papers := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "anna-papers"}}
	if err := u.direct.Get(u, client.ObjectKeyFromObject(papers), papers); err != nil {
		return err
	}
	first := papers.UID
	if err := u.direct.Delete(u, papers, client.Preconditions{UID: &first}); err != nil {
		return err
	}
	return u.until("the papers", papers, func() bool { return papers.UID != first })
}

func (u *user) index() error {
	found := &BoatList{}
	return u.eventually("both boats of one owner", func() (bool, error) {
		err := u.cached.List(u, found, client.InNamespace(namespace), client.MatchingFields{"spec.owner": "ann"})
		return err == nil && len(found.Items) == 2, err
	})
}

func (u *user) conversion() error {
	older := &unstructured.Unstructured{}
	older.SetGroupVersionKind(schema.GroupVersionKind{Group: group, Version: "v1alpha1", Kind: "Boat"})
	if err := u.direct.Get(u, client.ObjectKey{Namespace: namespace, Name: "bert"}, older); err != nil {
		return err
	}
	feet, _, err := unstructured.NestedInt64(older.Object, "spec", "feet")
	if err != nil || feet != 36 {
		return fmt.Errorf("%d feet, %v: %v", feet, err, older.Object["spec"])
	}
	if err := unstructured.SetNestedField(older.Object, int64(60), "spec", "feet"); err != nil {
		return err
	}
	if err := u.direct.Update(u, older); err != nil {
		return err
	}
	bert := boat("bert", "")
	if err := u.direct.Get(u, client.ObjectKeyFromObject(bert), bert); err != nil {
		return err
	}
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(schema.GroupVersionKind{Group: group, Version: "v1alpha1", Kind: "BoatList"})
	if err := u.direct.List(u, list, client.InNamespace(namespace)); err != nil {
		return err
	}
	if bert.Spec.Length != 20 || len(list.Items) != 2 || list.Items[0].GetAPIVersion() != group+"/v1alpha1" {
		return fmt.Errorf("length %d, list %v", bert.Spec.Length, list.Items)
	}
	return nil
}

func (u *user) changes() error {
	anna := boat("anna", "")
	result, err := controllerutil.CreateOrUpdate(u, u.direct, anna, func() error { anna.Labels = map[string]string{"paint": "red"}; return nil })
	if err != nil || result != controllerutil.OperationResultUpdated {
		return fmt.Errorf("CreateOrUpdate: %s, %w", result, err)
	}
	before := anna.DeepCopy()
	painted := anna.Generation
	anna.Labels["paint"] = "blue"
	if err := u.direct.Patch(u, anna, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return err
	}
	stale := before.DeepCopy()
	stale.Labels["paint"] = "green"
	if err := u.direct.Patch(u, stale, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); !apierrors.IsConflict(err) {
		return fmt.Errorf("a stale patch: %v", err)
	}
	wanted := &unstructured.Unstructured{Object: map[string]any{"apiVersion": group + "/v1", "kind": "Boat",
		"metadata": map[string]any{"namespace": namespace, "name": "anna", "labels": map[string]any{"paint": "white"}}, "spec": map[string]any{"length": int64(7)}}}
	if err := u.direct.Apply(u, client.ApplyConfigurationFromUnstructured(wanted), client.FieldOwner("user")); !apierrors.IsConflict(err) {
		return fmt.Errorf("apply of what another one has set: %v", err)
	}
	if err := u.direct.Apply(u, client.ApplyConfigurationFromUnstructured(wanted), client.FieldOwner("user"), client.ForceOwnership); err != nil {
		return err
	}
	return u.until("it is reconciled again", anna, func() bool {
		return anna.Labels["paint"] == "white" && anna.Spec.Length == 7 && anna.Generation == painted+1 && anna.Status.ObservedGeneration == anna.Generation
	})
}

func (u *user) end() error {
	if err := u.direct.DeleteAllOf(u, &Boat{}, client.InNamespace(namespace)); err != nil {
		return err
	}
	return u.eventually("all is gone", func() (bool, error) {
		boats, papers := &BoatList{}, &corev1.ConfigMapList{}
		if err := u.direct.List(u, boats, client.InNamespace(namespace)); err != nil {
			return false, err
		}
		if err := u.direct.List(u, papers, client.InNamespace(namespace), client.MatchingLabels{"papers": "yes"}); err != nil {
			return false, err
		}
		return len(boats.Items)+len(papers.Items) == 0, nil
	})
}

// configurations are the webhooks, by URL.
func configurations(base string, authority []byte) []client.Object {
	fail, none := admissionv1.Fail, admissionv1.SideEffectClassNone
	to := func(path string) admissionv1.WebhookClientConfig {
		url := base + path
		return admissionv1.WebhookClientConfig{URL: &url, CABundle: authority}
	}
	rules := []admissionv1.RuleWithOperations{{Operations: []admissionv1.OperationType{admissionv1.Create, admissionv1.Update},
		Rule: admissionv1.Rule{APIGroups: []string{group}, APIVersions: []string{"v1"}, Resources: []string{"boats"}}}}
	meta := metav1.ObjectMeta{Name: "boats.example.com"}
	return []client.Object{
		&admissionv1.MutatingWebhookConfiguration{ObjectMeta: meta, Webhooks: []admissionv1.MutatingWebhook{{Name: "defaults.boats.example.com",
			ClientConfig: to("/mutate-boats-example-com-v1-boat"), Rules: rules, FailurePolicy: &fail, SideEffects: &none, AdmissionReviewVersions: []string{"v1"}}}},
		&admissionv1.ValidatingWebhookConfiguration{ObjectMeta: meta, Webhooks: []admissionv1.ValidatingWebhook{{Name: "rules.boats.example.com",
			ClientConfig: to("/validate-boats-example-com-v1-boat"), Rules: rules, FailurePolicy: &fail, SideEffects: &none, AdmissionReviewVersions: []string{"v1"}}}},
	}
}

// certify makes an authority and a certificate for loopback.
func certify() (*tls.Certificate, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "webhooks"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	authority, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	leaf := *template
	leaf.SerialNumber, leaf.IsCA, leaf.KeyUsage, leaf.Subject = big.NewInt(2), false, x509.KeyUsageDigitalSignature, pkix.Name{CommonName: "127.0.0.1"}
	issued, err := x509.CreateCertificate(rand.Reader, &leaf, template, own.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{issued}, PrivateKey: own}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority}), nil
}

func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}
