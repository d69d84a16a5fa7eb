// What knows no types: discovery, the dynamic and the metadata client, pages.
package main

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/pager"
)

var configMaps = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}

// json is the configuration of clients that speak no protobuf.
func (b *bench) json() *rest.Config {
	config := rest.CopyConfig(b.config)
	config.ContentType, config.AcceptContentTypes = "", ""
	return config
}

func discover(b *bench) error {
	client, err := discovery.NewDiscoveryClientForConfig(b.json())
	if err != nil {
		return err
	}
	version, err := client.ServerVersion()
	if err != nil {
		return err
	}
	groups, resources, err := client.ServerGroupsAndResources()
	if err != nil {
		return err
	}
	preferred, err := client.ServerPreferredResources()
	if err != nil {
		return err
	}
	swagger, err := client.OpenAPISchema()
	if err != nil {
		return fmt.Errorf("OpenAPI v2: %w", err)
	}
	paths, err := client.OpenAPIV3().Paths()
	if err != nil {
		return fmt.Errorf("OpenAPI v3: %w", err)
	}
	for path, group := range paths {
		for _, form := range []string{runtime.ContentTypeJSON, "application/com.github.proto-openapi.spec.v3@v1.0+protobuf"} {
			if _, err := group.Schema(form); err != nil {
				return fmt.Errorf("OpenAPI v3 of %s as %s: %w", path, form, err)
			}
		}
	}
	unaggregated := discovery.NewDiscoveryClientForConfigOrDie(b.json())
	unaggregated.UseLegacyDiscovery = true
	_, plain, err := unaggregated.ServerGroupsAndResources()
	if err != nil {
		return err
	}
	if err := all(
		check(version.Major == "1" && version.Minor == "36", "version: %v", version),
		check(len(groups) >= 20 && len(resources) > len(groups) && len(preferred) == len(resources), "groups: %d, versions: %d, preferred: %d", len(groups), len(resources), len(preferred)),
		check(count(plain) == count(resources), "discovery of both kinds tells the same: %d, %d", count(plain), count(resources)),
		check(len(swagger.GetPaths().GetPath()) > 300 && paths["apis/apps/v1"] != nil, "paths in OpenAPI"),
	); err != nil {
		return err
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(client))
	mapping, err := mapper.RESTMapping(schema.GroupKind{Group: "apps", Kind: "Deployment"})
	if err != nil {
		return err
	}
	short := restmapper.NewShortcutExpander(mapper, client, nil)
	resource, err := short.ResourceFor(schema.GroupVersionResource{Resource: "pdb"})
	if err != nil {
		return err
	}
	category, _ := restmapper.NewDiscoveryCategoryExpander(client).Expand("all")
	return all(check(mapping.Resource.Version == "v1" && mapping.Resource.Resource == "deployments", "mapping: %v", mapping),
		check(resource.Resource == "poddisruptionbudgets", "short name: %v", resource), check(len(category) >= 10, "kubectl get all: %v", category))
}

func count(lists []*metav1.APIResourceList) (resources int) {
	for _, list := range lists {
		for _, resource := range list.APIResources {
			// Aggregated discovery tells of subresources as of others.
			if resource.Name != "" {
				resources++
			}
		}
	}
	return resources
}

func dynamicClient(b *bench) error {
	client, err := dynamic.NewForConfig(b.json())
	if err != nil {
		return err
	}
	maps := client.Resource(configMaps).Namespace(namespace)
	object := func(name string, data map[string]any) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap",
			"metadata": map[string]any{"name": name, "labels": map[string]any{"dynamic": "yes"}}, "data": data}}
	}
	made, err := maps.Create(b, object("dynamic", map[string]any{"a": "1"}), metav1.CreateOptions{FieldValidation: "Strict"})
	if err != nil {
		return err
	}
	wrong := object("wrong", nil)
	wrong.Object["dat"] = "1"
	_, err = maps.Create(b, wrong, metav1.CreateOptions{FieldValidation: "Strict"})
	if err := check(apierrors.IsBadRequest(err) && strings.Contains(err.Error(), `unknown field "dat"`), "strict: %v", err); err != nil {
		return err
	}
	if err := unstructured.SetNestedField(made.Object, "2", "data", "a"); err != nil {
		return err
	}
	if made, err = maps.Update(b, made, metav1.UpdateOptions{}); err != nil {
		return err
	}
	if made, err = maps.Patch(b, "dynamic", types.MergePatchType, []byte(`{"data": {"b": "3"}}`), metav1.PatchOptions{}); err != nil {
		return err
	}
	if made, err = maps.Apply(b, "dynamic", object("dynamic", map[string]any{"c": "4"}), metav1.ApplyOptions{FieldManager: "dynamic"}); err != nil {
		return err
	}
	// The same object, as a typed one.
	config := &corev1.ConfigMap{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(made.Object, config); err != nil {
		return err
	}
	list, err := maps.List(b, metav1.ListOptions{LabelSelector: "dynamic in (yes)"})
	if err != nil {
		return err
	}
	if err := all(check(fmt.Sprint(config.Data) == "map[a:2 b:3 c:4]", "data: %v", config.Data),
		check(len(list.Items) == 1 && list.GetKind() == "ConfigMapList" && list.Items[0].GetKind() == "ConfigMap", "list: %v", list)); err != nil {
		return err
	}
	return maps.Delete(b, "dynamic", metav1.DeleteOptions{})
}

func metadataClient(b *bench) error {
	client, err := metadata.NewForConfig(b.config)
	if err != nil {
		return err
	}
	if _, err := b.typed.CoreV1().ConfigMaps(namespace).Create(b, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "partial", Labels: map[string]string{"partial": "yes"}},
		Data: map[string]string{"a": "1"}}, metav1.CreateOptions{}); err != nil {
		return err
	}
	maps := client.Resource(configMaps).Namespace(namespace)
	one, err := maps.Get(b, "partial", metav1.GetOptions{})
	if err != nil {
		return err
	}
	list, err := maps.List(b, metav1.ListOptions{LabelSelector: "partial"})
	if err != nil {
		return err
	}
	seen, err := maps.Watch(b, metav1.ListOptions{LabelSelector: "partial", ResourceVersion: list.ResourceVersion})
	if err != nil {
		return err
	}
	defer seen.Stop()
	patched, err := maps.Patch(b, "partial", types.MergePatchType, []byte(`{"metadata": {"labels": {"more": "yes"}}}`), metav1.PatchOptions{})
	if err != nil {
		return err
	}
	event := <-seen.ResultChan()
	told, partial := event.Object.(*metav1.PartialObjectMetadata)
	if err := all(check(one.Name == "partial" && len(list.Items) == 1, "partial: %v, %v", one, list),
		check(partial && told.ResourceVersion == patched.ResourceVersion && told.Labels["more"] == "yes", "watched: %v", event)); err != nil {
		return err
	}
	return maps.DeleteCollection(b, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "partial"})
}

func pages(b *bench) error {
	maps := b.typed.CoreV1().ConfigMaps(namespace)
	for number := range 25 {
		if _, err := maps.Create(b, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("page-%02d", number), Labels: map[string]string{"page": "yes"}}}, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	// Pages show one moment: what comes in between is not in them.
	first, err := maps.List(b, metav1.ListOptions{Limit: 10, FieldSelector: "metadata.name!=kube-root-ca.crt"})
	if err != nil {
		return err
	}
	if err := check(len(first.Items) == 10 && first.Continue != "" && first.RemainingItemCount == nil, "a page: %v", first.ListMeta); err != nil {
		return err
	}
	if err := maps.Delete(b, "page-24", metav1.DeleteOptions{}); err != nil {
		return err
	}
	second, err := maps.List(b, metav1.ListOptions{Limit: 100, Continue: first.Continue, FieldSelector: "metadata.name!=kube-root-ca.crt"})
	if err != nil {
		return err
	}
	kept := false
	for _, item := range second.Items {
		kept = kept || item.Name == "page-24"
	}
	if err := check(kept && second.ResourceVersion == first.ResourceVersion && second.Continue == "", "the last page: %t, %v", kept, second.ListMeta); err != nil {
		return err
	}
	counted, err := maps.List(b, metav1.ListOptions{Limit: 1})
	if err != nil {
		return err
	}
	if err := check(counted.RemainingItemCount != nil && *counted.RemainingItemCount >= 23, "what remains is counted: %v", counted.ListMeta); err != nil {
		return err
	}
	names := map[string]bool{}
	walk := pager.New(pager.SimplePageFunc(func(options metav1.ListOptions) (runtime.Object, error) { return maps.List(b, options) }))
	walk.PageSize = 7
	if err := walk.EachListItem(context.Background(), metav1.ListOptions{LabelSelector: "page"}, func(object runtime.Object) error {
		names[object.(*corev1.ConfigMap).Name] = true
		return nil
	}); err != nil {
		return err
	}
	if err := check(len(names) == 24, "the pager sees each once: %v", names); err != nil {
		return err
	}
	return maps.DeleteCollection(b, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "page"})
}
