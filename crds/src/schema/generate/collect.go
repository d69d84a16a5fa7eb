package main

import (
	"reflect"
	"sort"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	admissionv1beta1 "k8s.io/api/admission/v1beta1"
	discoveryv2 "k8s.io/api/apidiscovery/v2"
	extensionsinstall "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/install"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"
	registrationscheme "k8s.io/kube-aggregator/pkg/apiserver/scheme"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	_ "k8s.io/kubernetes/pkg/apis/admission/install"
	_ "k8s.io/kubernetes/pkg/apis/admissionregistration/install"
	_ "k8s.io/kubernetes/pkg/apis/apiserverinternal/install"
	_ "k8s.io/kubernetes/pkg/apis/apps/install"
	_ "k8s.io/kubernetes/pkg/apis/authentication/install"
	_ "k8s.io/kubernetes/pkg/apis/authorization/install"
	_ "k8s.io/kubernetes/pkg/apis/autoscaling/install"
	_ "k8s.io/kubernetes/pkg/apis/batch/install"
	_ "k8s.io/kubernetes/pkg/apis/certificates/install"
	_ "k8s.io/kubernetes/pkg/apis/coordination/install"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	_ "k8s.io/kubernetes/pkg/apis/discovery/install"
	_ "k8s.io/kubernetes/pkg/apis/events/install"
	_ "k8s.io/kubernetes/pkg/apis/extensions/install"
	_ "k8s.io/kubernetes/pkg/apis/flowcontrol/install"
	_ "k8s.io/kubernetes/pkg/apis/imagepolicy/install"
	_ "k8s.io/kubernetes/pkg/apis/networking/install"
	_ "k8s.io/kubernetes/pkg/apis/node/install"
	_ "k8s.io/kubernetes/pkg/apis/policy/install"
	_ "k8s.io/kubernetes/pkg/apis/rbac/install"
	_ "k8s.io/kubernetes/pkg/apis/resource/install"
	_ "k8s.io/kubernetes/pkg/apis/scheduling/install"
	_ "k8s.io/kubernetes/pkg/apis/storage/install"
	_ "k8s.io/kubernetes/pkg/apis/storagemigration/install"
	"k8s.io/kubernetes/pkg/generated/openapi"
)

// Groups and versions whose kinds upstream still decodes but no longer serves.
var retired = map[string]bool{
	"admission.k8s.io/v1beta1": true, "apiextensions.k8s.io/v1beta1": true, "apiregistration.k8s.io/v1beta1": true,
	"apps/v1beta1": true, "apps/v1beta2": true, "authorization.k8s.io/v1beta1": true, "batch/v1beta1": true,
	"discovery.k8s.io/v1beta1": true, "events.k8s.io/v1beta1": true, "extensions/v1beta1": true,
	"flowcontrol.apiserver.k8s.io/v1beta1": true, "flowcontrol.apiserver.k8s.io/v1beta2": true,
	"flowcontrol.apiserver.k8s.io/v1beta3": true, "node.k8s.io/v1alpha1": true, "node.k8s.io/v1beta1": true,
	"rbac.authorization.k8s.io/v1alpha1": true, "rbac.authorization.k8s.io/v1beta1": true,
	"scheduling.k8s.io/v1beta1": true,
}

type table struct {
	definitions map[string]common.OpenAPIDefinition
	versions    []string                  // every group and version, served or not
	types       []reflect.Type            // sorted by OpenAPI name
	kinds       map[reflect.Type][]string // "group/version kind", sorted
	everywhere  map[reflect.Type]string   // kinds of every group and version
	names       map[string]reflect.Type
	internals   map[string]reflect.Type
}

func collect() *table {
	extensions := runtime.NewScheme()
	extensionsinstall.Install(extensions)
	t := &table{
		definitions: openapi.GetOpenAPIDefinitions(func(name string) spec.Ref { return spec.MustCreateRef("#" + name) }),
		kinds:       map[reflect.Type][]string{},
		everywhere:  map[reflect.Type]string{},
		names:       map[string]reflect.Type{},
	}
	versions := map[string]bool{}
	count := map[reflect.Type]map[string]bool{}
	schemes := []*runtime.Scheme{legacyscheme.Scheme, extensions, registrationscheme.Scheme}
	t.internals = internals(schemes)
	for _, scheme := range schemes {
		for gvk, goType := range scheme.AllKnownTypes() {
			if gvk.Version == runtime.APIVersionInternal || gvk.Group == metav1.GroupName {
				continue
			}
			versions[version_(gvk)] = true
			if goType.PkgPath() == "k8s.io/apimachinery/pkg/apis/meta/v1" {
				if count[goType] == nil {
					count[goType] = map[string]bool{}
				}
				count[goType][version_(gvk)+" "+gvk.Kind] = true
				continue
			}
			if retired[version_(gvk)] || (version_(gvk) == "policy/v1beta1" && gvk.Kind != "Eviction") {
				continue
			}
			t.kinds[goType] = append(t.kinds[goType], version_(gvk)+" "+gvk.Kind)
			t.visit(goType)
		}
	}
	for goType, of := range count {
		for kind := range of {
			if len(of) > 20 {
				t.everywhere[goType] = strings.Fields(kind)[1]
			} else {
				t.kinds[goType] = append(t.kinds[goType], kind)
			}
		}
		sort.Strings(t.kinds[goType])
		t.visit(goType)
	}
	for v := range versions {
		t.versions = append(t.versions, v)
	}
	sort.Strings(t.versions)
	for _, extra := range []any{
		metav1.Table{}, metav1.PartialObjectMetadata{}, metav1.PartialObjectMetadataList{}, metav1.TableOptions{},
		metav1.APIGroup{}, metav1.APIGroupList{}, metav1.APIResourceList{}, metav1.APIVersions{}, metav1.Status{},
		metav1.List{}, metav1.LabelSelector{}, metav1.Condition{}, admissionv1.AdmissionReview{},
		admissionv1beta1.AdmissionReview{}, discoveryv2.APIGroupDiscoveryList{}, version.Info{},
	} {
		t.visit(reflect.TypeOf(extra))
	}
	for _, goType := range t.names {
		t.types = append(t.types, goType)
	}
	sort.Slice(t.types, func(a, b int) bool { return modelName(t.types[a]) < modelName(t.types[b]) })
	return t
}

func version_(gvk schema.GroupVersionKind) string {
	return gvk.Group + "/" + gvk.Version
}

// modelName is the OpenAPI name of a Go type.
func modelName(goType reflect.Type) string {
	if named, ok := reflect.New(goType).Interface().(interface{ OpenAPIModelName() string }); ok {
		return named.OpenAPIModelName()
	}
	parts := strings.SplitN(goType.PkgPath(), "/", 2)
	host := strings.Split(parts[0], ".")
	for l, r := 0, len(host)-1; l < r; l, r = l+1, r-1 {
		host[l], host[r] = host[r], host[l]
	}
	return strings.Join(host, ".") + "." + strings.ReplaceAll(parts[1], "/", ".") + "." + goType.Name()
}

// visit adds a struct and all that it is made of.
func (t *table) visit(goType reflect.Type) {
	for goType.Kind() == reflect.Pointer || goType.Kind() == reflect.Slice || goType.Kind() == reflect.Map {
		goType = goType.Elem()
	}
	if goType.Kind() != reflect.Struct || special(goType) != "" || t.names[modelName(goType)] != nil {
		return
	}
	t.names[modelName(goType)] = goType
	for _, f := range fields(goType, nil, true) {
		t.visit(f.Type)
	}
}
