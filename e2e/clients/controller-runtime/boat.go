// The kind Boat in two versions, its webhooks, and its reconciler.
package main

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/conversion"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

const group = "boats.example.com"

// Boat is the hub: what is stored.
type Boat struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              BoatSpec   `json:"spec,omitempty"`
	Status            BoatStatus `json:"status,omitempty"`
}

type BoatSpec struct {
	Owner string `json:"owner,omitempty"`
	// In metres.
	Length int64 `json:"length,omitempty"`
}

type BoatStatus struct {
	Phase              string `json:"phase,omitempty"`
	ObservedGeneration int64  `json:"observedGeneration,omitempty"`
}

type BoatList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Boat `json:"items"`
}

// OldBoat is Boat in v1alpha1, which measured in feet.
type OldBoat struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              OldBoatSpec `json:"spec,omitempty"`
	Status            BoatStatus  `json:"status,omitempty"`
}

type OldBoatSpec struct {
	Owner string `json:"owner,omitempty"`
	Feet  int64  `json:"feet,omitempty"`
}

func (b *Boat) DeepCopyObject() runtime.Object { return b.DeepCopy() }

func (b *Boat) DeepCopy() *Boat {
	copied := *b
	b.ObjectMeta.DeepCopyInto(&copied.ObjectMeta)
	return &copied
}

func (l *BoatList) DeepCopyObject() runtime.Object {
	copied := &BoatList{TypeMeta: l.TypeMeta, ListMeta: *l.ListMeta.DeepCopy()}
	for index := range l.Items {
		copied.Items = append(copied.Items, *l.Items[index].DeepCopy())
	}
	return copied
}

func (o *OldBoat) DeepCopyObject() runtime.Object {
	copied := *o
	o.ObjectMeta.DeepCopyInto(&copied.ObjectMeta)
	return &copied
}

func (*Boat) Hub() {}

func (o *OldBoat) ConvertTo(hub conversion.Hub) error {
	boat := hub.(*Boat)
	boat.ObjectMeta, boat.Status, boat.Spec = o.ObjectMeta, o.Status, BoatSpec{Owner: o.Spec.Owner, Length: o.Spec.Feet / 3}
	return nil
}

func (o *OldBoat) ConvertFrom(hub conversion.Hub) error {
	boat := hub.(*Boat)
	o.ObjectMeta, o.Status, o.Spec = boat.ObjectMeta, boat.Status, OldBoatSpec{Owner: boat.Spec.Owner, Feet: boat.Spec.Length * 3}
	return nil
}

func AddToScheme(scheme *runtime.Scheme) error {
	v1, v1alpha1 := schema.GroupVersion{Group: group, Version: "v1"}, schema.GroupVersion{Group: group, Version: "v1alpha1"}
	scheme.AddKnownTypes(v1, &Boat{}, &BoatList{})
	scheme.AddKnownTypeWithName(v1alpha1.WithKind("Boat"), &OldBoat{})
	metav1.AddToGroupVersion(scheme, v1)
	metav1.AddToGroupVersion(scheme, v1alpha1)
	return nil
}

// definitions is the CustomResourceDefinition.
func definitions(base string, authority []byte) []*apiextensionsv1.CustomResourceDefinition {
	url := base + "/convert"
	version := func(name, measure string, stored bool) apiextensionsv1.CustomResourceDefinitionVersion {
		most := 100
		if measure == "feet" {
			most = 300
		}
		return apiextensionsv1.CustomResourceDefinitionVersion{Name: name, Served: true, Storage: stored,
			Subresources: &apiextensionsv1.CustomResourceSubresources{Status: &apiextensionsv1.CustomResourceSubresourceStatus{}},
			Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object",
				Properties: map[string]apiextensionsv1.JSONSchemaProps{
					"spec": {Type: "object", Properties: map[string]apiextensionsv1.JSONSchemaProps{"owner": {Type: "string"}, measure: {Type: "integer"}},
						XValidations: apiextensionsv1.ValidationRules{{Rule: fmt.Sprintf("!has(self.%s) || self.%s <= %d", measure, measure, most), Message: "a boat, not a ship"}}},
					"status": {Type: "object", Properties: map[string]apiextensionsv1.JSONSchemaProps{"phase": {Type: "string"}, "observedGeneration": {Type: "integer"}}},
				}}}}
	}
	return []*apiextensionsv1.CustomResourceDefinition{{ObjectMeta: metav1.ObjectMeta{Name: "boats." + group},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{Group: group, Scope: apiextensionsv1.NamespaceScoped,
			Names:    apiextensionsv1.CustomResourceDefinitionNames{Plural: "boats", Singular: "boat", Kind: "Boat", ListKind: "BoatList"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{version("v1", "length", true), version("v1alpha1", "feet", false)},
			Conversion: &apiextensionsv1.CustomResourceConversion{Strategy: apiextensionsv1.WebhookConverter, Webhook: &apiextensionsv1.WebhookConversion{
				ClientConfig: &apiextensionsv1.WebhookClientConfig{URL: &url, CABundle: authority}, ConversionReviewVersions: []string{"v1"}}}}}}
}

// hooks sets defaults, and validates.
type hooks struct{}

func (hooks) Default(_ context.Context, boat *Boat) error {
	if boat.Spec.Length == 0 {
		boat.Spec.Length = 5
	}
	return nil
}

func (hooks) ValidateCreate(_ context.Context, boat *Boat) (admission.Warnings, error) {
	if boat.Spec.Owner == "nobody" {
		return nil, fmt.Errorf("nobody owns no boats")
	}
	return admission.Warnings{"boats sink"}, nil
}

func (hooks) ValidateUpdate(_ context.Context, before, after *Boat) (admission.Warnings, error) {
	if before.Spec.Owner != after.Spec.Owner {
		return nil, fmt.Errorf("owners stay")
	}
	return nil, nil
}

func (hooks) ValidateDelete(context.Context, *Boat) (admission.Warnings, error) { return nil, nil }

// reconciler gives each boat its papers.
type reconciler struct {
	client.Client
	scheme   *runtime.Scheme
	recorder events.EventRecorder
}

func (r *reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	boat := &Boat{}
	if err := r.Get(ctx, request.NamespacedName, boat); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !boat.DeletionTimestamp.IsZero() {
		if controllerutil.RemoveFinalizer(boat, finalizer) {
			return ctrl.Result{}, r.Update(ctx, boat)
		}
		return ctrl.Result{}, nil
	}
	if controllerutil.AddFinalizer(boat, finalizer) {
		if err := r.Update(ctx, boat); err != nil {
			return ctrl.Result{}, err
		}
	}
	papers := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: boat.Namespace, Name: boat.Name + "-papers"}}
	result, err := controllerutil.CreateOrUpdate(ctx, r.Client, papers, func() error {
		papers.Labels = map[string]string{"papers": "yes"}
		papers.Data = map[string]string{"length": fmt.Sprint(boat.Spec.Length)}
		return ctrl.SetControllerReference(boat, papers, r.scheme)
	})
	if err != nil {
		return ctrl.Result{}, err
	}
	if result == controllerutil.OperationResultCreated {
		r.recorder.Eventf(boat, papers, corev1.EventTypeNormal, "Launched", "Launch", "%s has its papers", boat.Name)
	}
	if boat.Status.Phase == "Afloat" && boat.Status.ObservedGeneration == boat.Generation {
		return ctrl.Result{}, nil
	}
	boat.Status = BoatStatus{Phase: "Afloat", ObservedGeneration: boat.Generation}
	return ctrl.Result{}, r.Status().Update(ctx, boat)
}
