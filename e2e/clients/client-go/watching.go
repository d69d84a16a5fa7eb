// What lives on watches: bookmarks, WatchList, informers of three kinds.
package main

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	clients "k8s.io/client-go/informers"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
)

func (b *bench) configMap(name, value string) error {
	maps := b.typed.CoreV1().ConfigMaps(namespace)
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"watched": "yes"}}, Data: map[string]string{"a": value}}
	_, err := maps.Create(b, object, metav1.CreateOptions{})
	if err != nil {
		_, err = maps.Update(b, object, metav1.UpdateOptions{})
	}
	return err
}

func watches(b *bench) error {
	maps := b.typed.CoreV1().ConfigMaps(namespace)
	if err := all(b.configMap("one", "1"), b.configMap("two", "1")); err != nil {
		return err
	}
	// A WatchList: what is there, a bookmark that says so; and before its time is over, one that says how far it came.
	seconds := int64(4)
	yes := true
	seen, err := maps.Watch(b, metav1.ListOptions{LabelSelector: "watched", AllowWatchBookmarks: true, SendInitialEvents: &yes,
		ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan, TimeoutSeconds: &seconds})
	if err != nil {
		return err
	}
	// Without it there is nothing new to say.
	if _, err := maps.Create(b, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "unwatched"}}, metav1.CreateOptions{}); err != nil {
		return err
	}
	var told []string
	for event := range seen.ResultChan() {
		object, ok := event.Object.(*corev1.ConfigMap)
		if !ok {
			return fmt.Errorf("an event of another kind: %v", event)
		}
		told = append(told, strings.TrimSpace(fmt.Sprintf("%s %s%s", event.Type, object.Name, object.Annotations[metav1.InitialEventsAnnotationKey])))
	}
	if err := check(strings.HasPrefix(strings.Join(told, ", "), "ADDED one, ADDED two, BOOKMARK true, BOOKMARK"), "a watch tells of: %v", told); err != nil {
		return err
	}
	// A watch that goes on where another ended.
	list, err := maps.List(b, metav1.ListOptions{})
	if err != nil {
		return err
	}
	lister := cache.NewFilteredListWatchFromClient(b.typed.CoreV1().RESTClient(), "configmaps", namespace, func(*metav1.ListOptions) {})
	again, err := watchtools.NewRetryWatcherWithContext(b, list.ResourceVersion, lister)
	if err != nil {
		return err
	}
	defer again.Stop()
	for _, value := range []string{"2", "3", "4"} {
		if err := b.configMap("one", value); err != nil {
			return err
		}
		event := <-again.ResultChan()
		object, ok := event.Object.(*corev1.ConfigMap)
		if err := check(ok && event.Type == watch.Modified && object.Data["a"] == value, "after a cut: %v", event); err != nil {
			return err
		}
		b.wire.cut()
	}
	ctx, cancel := context.WithTimeout(b, patience)
	defer cancel()
	result := make(chan error, 1)
	go func() {
		_, err := watchtools.UntilWithSync(ctx, lister, &corev1.ConfigMap{}, nil, func(event watch.Event) (bool, error) {
			object, ok := event.Object.(*corev1.ConfigMap)
			return ok && object.Name == "two" && object.Data["a"] == "done", nil
		})
		result <- err
	}()
	if err := b.configMap("two", "done"); err != nil {
		return err
	}
	if err := <-result; err != nil {
		return fmt.Errorf("UntilWithSync: %w", err)
	}
	return maps.DeleteCollection(b, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "watched"})
}

// What the handler of one informer was told.
type diary struct {
	sync.Mutex
	lines []string
	// Updates without a change: what a resync looks like.
	resyncs int
}

func (d *diary) note(verb string, object any) {
	if gone, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = gone.Obj
	}
	d.Lock()
	d.lines = append(d.lines, verb+" "+object.(metav1.Object).GetName())
	d.Unlock()
}

// has says whether all of these were told.
func (d *diary) has(lines ...string) bool {
	d.Lock()
	defer d.Unlock()
	told := map[string]bool{}
	for _, line := range d.lines {
		told[line] = true
	}
	for _, line := range lines {
		if !told[line] {
			return false
		}
	}
	return true
}

func (d *diary) handler() cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(object any) { d.note("add", object) },
		UpdateFunc: func(before, after any) {
			if before.(metav1.Object).GetResourceVersion() == after.(metav1.Object).GetResourceVersion() {
				d.Lock()
				d.resyncs++
				d.Unlock()
				return
			}
			d.note("update", after)
		},
		DeleteFunc: func(object any) { d.note("delete", object) },
	}
}

func informers(b *bench) error {
	ctx, cancel := context.WithCancel(b)
	defer cancel()
	const resync = time.Second
	selected := func(options *metav1.ListOptions) { options.LabelSelector = "watched" }
	dynamics, err := dynamic.NewForConfig(b.json())
	if err != nil {
		return err
	}
	metadatas, err := metadata.NewForConfig(b.config)
	if err != nil {
		return err
	}
	ofTypes := clients.NewSharedInformerFactoryWithOptions(b.typed, resync, clients.WithNamespace(namespace), clients.WithTweakListOptions(selected))
	ofAny := dynamicinformer.NewFilteredDynamicSharedInformerFactory(dynamics, resync, namespace, selected)
	ofMetadata := metadatainformer.NewFilteredSharedInformerFactory(metadatas, resync, namespace, selected)
	kinds := map[string]cache.SharedIndexInformer{
		"typed":    ofTypes.Core().V1().ConfigMaps().Informer(),
		"dynamic":  ofAny.ForResource(configMaps).Informer(),
		"metadata": ofMetadata.ForResource(configMaps).Informer(),
	}
	if err := all(b.configMap("old", "1"), b.configMap("older", "1")); err != nil {
		return err
	}
	watchLists, lists := b.wire.watchLists.Load(), b.wire.lists.Load()
	diaries := map[string]*diary{}
	for kind, informer := range kinds {
		diaries[kind] = &diary{}
		if _, err := informer.AddEventHandlerWithResyncPeriod(diaries[kind].handler(), resync); err != nil {
			return err
		}
	}
	ofTypes.Start(ctx.Done())
	ofAny.Start(ctx.Done())
	ofMetadata.Start(ctx.Done())
	for kind, informer := range kinds {
		if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
			return fmt.Errorf("the %s informer did not see what is there", kind)
		}
	}
	if err := all(check(b.wire.watchLists.Load() >= watchLists+3, "informers begin with a watch"),
		check(b.wire.lists.Load() == lists, "and not with a list")); err != nil {
		return err
	}
	expect := func(lines ...string) error {
		for kind, diary := range diaries {
			if err := b.eventually(fmt.Sprintf("the %s informer: %v", kind, lines), func() (bool, error) { return diary.has(lines...), nil }); err != nil {
				return fmt.Errorf("%w; it told of %v", err, diary.lines)
			}
		}
		return nil
	}
	if err := all(expect("add old", "add older"), b.configMap("new", "1"), b.configMap("old", "2"),
		b.typed.CoreV1().ConfigMaps(namespace).Delete(b, "older", metav1.DeleteOptions{}),
		expect("add new", "update old", "delete older")); err != nil {
		return err
	}
	// All connections break: nothing that happens meanwhile is lost.
	b.wire.cut()
	if err := all(b.configMap("newer", "1"), b.configMap("new", "2"),
		b.typed.CoreV1().ConfigMaps(namespace).Delete(b, "old", metav1.DeleteOptions{}),
		expect("add newer", "update new", "delete old")); err != nil {
		return err
	}
	for kind, diary := range diaries {
		if err := b.eventually("a resync of the "+kind+" informer", func() (bool, error) {
			diary.Lock()
			defer diary.Unlock()
			return diary.resyncs > 0, nil
		}); err != nil {
			return err
		}
		keys := kinds[kind].GetStore().ListKeys()
		sort.Strings(keys)
		if err := check(strings.Join(keys, " ") == namespace+"/new "+namespace+"/newer", "the %s informer keeps %v", kind, keys); err != nil {
			return err
		}
	}
	return b.typed.CoreV1().ConfigMaps(namespace).DeleteCollection(b, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "watched"})
}
