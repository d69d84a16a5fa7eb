// Typed clients: every verb of several kinds, their subresources, errors, apply configurations.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	appsac "k8s.io/client-go/applyconfigurations/apps/v1"
	autoscalingac "k8s.io/client-go/applyconfigurations/autoscaling/v1"
	coordinationac "k8s.io/client-go/applyconfigurations/coordination/v1"
	coreac "k8s.io/client-go/applyconfigurations/core/v1"
	eventsac "k8s.io/client-go/applyconfigurations/events/v1"
	metaac "k8s.io/client-go/applyconfigurations/meta/v1"
	rbacac "k8s.io/client-go/applyconfigurations/rbac/v1"
	"k8s.io/client-go/util/retry"
)

// The verbs that every typed client of one kind has.
type client[T metav1.Object, L metav1.ListInterface, A any] interface {
	Create(context.Context, T, metav1.CreateOptions) (T, error)
	Update(context.Context, T, metav1.UpdateOptions) (T, error)
	Delete(context.Context, string, metav1.DeleteOptions) error
	Get(context.Context, string, metav1.GetOptions) (T, error)
	List(context.Context, metav1.ListOptions) (L, error)
	Watch(context.Context, metav1.ListOptions) (watch.Interface, error)
	Patch(context.Context, string, types.PatchType, []byte, metav1.PatchOptions, ...string) (T, error)
	Apply(context.Context, A, metav1.ApplyOptions) (T, error)
}

// verbs uses all verbs of a kind: `object` is made and `applied` names another one.
func verbs[T metav1.Object, L metav1.ListInterface, A any](b *bench, kind string, kinds client[T, L, A], object T, applied A) error {
	fail := func(verb string, err error) error { return fmt.Errorf("%s of a %s: %w", verb, kind, err) }
	name, mark := "verbs", "verbs=yes"
	object.SetName(name)
	object.SetLabels(map[string]string{"verbs": "yes"})
	seen, err := kinds.Watch(b, metav1.ListOptions{LabelSelector: mark})
	if err != nil {
		return fail("watch", err)
	}
	defer seen.Stop()
	made, err := kinds.Create(b, object, metav1.CreateOptions{})
	if err != nil {
		return fail("create", err)
	}
	got, err := kinds.Get(b, name, metav1.GetOptions{})
	if err != nil {
		return fail("get", err)
	}
	if err := check(got.GetUID() == made.GetUID() && got.GetResourceVersion() == made.GetResourceVersion() && len(got.GetManagedFields()) == 1,
		"what is got is what was made: %v, %v", got, made); err != nil {
		return fail("get", err)
	}
	list, err := kinds.List(b, metav1.ListOptions{LabelSelector: mark, FieldSelector: "metadata.name=" + name})
	if err != nil {
		return fail("list", err)
	}
	if err := check(list.GetResourceVersion() != "", "a list has a version"); err != nil {
		return fail("list", err)
	}
	// Of a Deployment, its controller writes the status meanwhile.
	if err := retry.RetryOnConflict(tries, func() error {
		current, err := kinds.Get(b, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		current.SetAnnotations(map[string]string{"updated": "yes"})
		got, err = kinds.Update(b, current, metav1.UpdateOptions{})
		return err
	}); err != nil {
		return fail("update", err)
	}
	if err := check(got.GetAnnotations()["updated"] == "yes" && got.GetResourceVersion() != made.GetResourceVersion(), "it is changed: %v", got); err != nil {
		return fail("update", err)
	}
	for _, patch := range []struct {
		kind types.PatchType
		text string
	}{
		{types.JSONPatchType, `[{"op": "test", "path": "/metadata/annotations/updated", "value": "yes"}, {"op": "add", "path": "/metadata/annotations/a~1b", "value": "json"}]`},
		{types.MergePatchType, `{"metadata": {"annotations": {"updated": null, "c": "merge"}}}`},
		{types.StrategicMergePatchType, `{"metadata": {"annotations": {"d": "strategic"}, "finalizers": ["example.com/one"]}}`},
		{types.StrategicMergePatchType, `{"metadata": {"$deleteFromPrimitiveList/finalizers": ["example.com/one"]}}`},
	} {
		if got, err = kinds.Patch(b, name, patch.kind, []byte(patch.text), metav1.PatchOptions{}); err != nil {
			return fail("patch "+string(patch.kind), err)
		}
	}
	annotations := got.GetAnnotations()
	delete(annotations, "deployment.kubernetes.io/revision")
	notes, _ := json.Marshal(annotations)
	if err := check(string(notes) == `{"a/b":"json","c":"merge","d":"strategic"}` && len(got.GetFinalizers()) == 0, "patched: %s", notes); err != nil {
		return fail("patch", err)
	}
	if got, err = kinds.Apply(b, applied, metav1.ApplyOptions{FieldManager: "client-go"}); err != nil {
		return fail("apply", err)
	}
	if err := check(got.GetName() == "applied" && got.GetManagedFields()[0].Operation == metav1.ManagedFieldsOperationApply, "applied: %v", got); err != nil {
		return fail("apply", err)
	}
	preconditions := metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions("another")}
	if err := kinds.Delete(b, name, preconditions); !apierrors.IsConflict(err) {
		return fail("delete with another uid", fmt.Errorf("%v", err))
	}
	if err := kinds.Delete(b, name, metav1.DeleteOptions{}); err != nil {
		return fail("delete", err)
	}
	// Clients of Services have no such method.
	if collection, ok := kinds.(interface {
		DeleteCollection(context.Context, metav1.DeleteOptions, metav1.ListOptions) error
	}); ok {
		if err := collection.DeleteCollection(b, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "applied=yes"}); err != nil {
			return fail("delete of all", err)
		}
		if _, err := kinds.Get(b, "applied", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return fail("delete of all", fmt.Errorf("%v", err))
		}
	}
	var told []watch.EventType
	deadline := time.After(patience)
	for len(told) == 0 || told[len(told)-1] != watch.Deleted {
		select {
		case event := <-seen.ResultChan():
			told = append(told, event.Type)
		case <-deadline:
			return fail("watch", fmt.Errorf("no end of %v", told))
		}
	}
	// Controllers may have changed it meanwhile.
	return check(told[0] == watch.Added && len(told) >= 7, "the watch of a %s tells of all changes: %v", kind, told)
}

func typed(b *bench) error {
	others := b.wire.other.Load()
	web := map[string]string{"app": "web"}
	yes := map[string]string{"applied": "yes"}
	containers := []corev1.Container{{Name: "web", Image: "web:1", Ports: []corev1.ContainerPort{{ContainerPort: 80}}}}
	now := metav1.NowMicro()
	rules := []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"get"}}}
	rule := rbacac.PolicyRule().WithAPIGroups("").WithResources("configmaps").WithVerbs("get")
	subject := rbacac.Subject().WithKind("User").WithAPIGroup("rbac.authorization.k8s.io").WithName("jane")
	subjects := []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "jane"}}
	if err := all(
		verbs(b, "ConfigMap", b.typed.CoreV1().ConfigMaps(namespace),
			&corev1.ConfigMap{Data: map[string]string{"a": "1"}, BinaryData: map[string][]byte{"b": {0, 255}}},
			coreac.ConfigMap("applied", namespace).WithLabels(yes).WithData(web)),
		verbs(b, "Secret", b.typed.CoreV1().Secrets(namespace),
			&corev1.Secret{StringData: map[string]string{"a": "1"}},
			coreac.Secret("applied", namespace).WithLabels(yes).WithStringData(web)),
		verbs(b, "Service", b.typed.CoreV1().Services(namespace),
			&corev1.Service{Spec: corev1.ServiceSpec{Selector: web, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromString("http")}}}},
			coreac.Service("applied", namespace).WithLabels(yes).WithSpec(coreac.ServiceSpec().WithSelector(web).WithPorts(coreac.ServicePort().WithPort(80)))),
		verbs(b, "Deployment", b.typed.AppsV1().Deployments(namespace),
			&appsv1.Deployment{Spec: appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: web},
				Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: web}, Spec: corev1.PodSpec{Containers: containers}}}},
			deployment("applied", 1).WithLabels(yes)),
		verbs(b, "Role", b.typed.RbacV1().Roles(namespace),
			&rbacv1.Role{Rules: rules}, rbacac.Role("applied", namespace).WithLabels(yes).WithRules(rule)),
		verbs(b, "RoleBinding", b.typed.RbacV1().RoleBindings(namespace),
			&rbacv1.RoleBinding{Subjects: subjects, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "view"}},
			rbacac.RoleBinding("applied", namespace).WithLabels(yes).WithSubjects(subject).
				WithRoleRef(rbacac.RoleRef().WithAPIGroup(rbacv1.GroupName).WithKind("ClusterRole").WithName("view"))),
		verbs(b, "ClusterRole", b.typed.RbacV1().ClusterRoles(),
			&rbacv1.ClusterRole{Rules: rules}, rbacac.ClusterRole("applied").WithLabels(yes).WithRules(rule)),
		verbs(b, "ClusterRoleBinding", b.typed.RbacV1().ClusterRoleBindings(),
			&rbacv1.ClusterRoleBinding{Subjects: subjects, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "view"}},
			rbacac.ClusterRoleBinding("applied").WithLabels(yes).WithSubjects(subject).
				WithRoleRef(rbacac.RoleRef().WithAPIGroup(rbacv1.GroupName).WithKind("ClusterRole").WithName("view"))),
		verbs(b, "Lease", b.typed.CoordinationV1().Leases(namespace),
			&coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{RenewTime: &now}},
			coordinationac.Lease("applied", namespace).WithLabels(yes).WithSpec(coordinationac.LeaseSpec().WithHolderIdentity("me").WithRenewTime(now))),
		verbs(b, "Event", b.typed.EventsV1().Events(namespace),
			&eventsv1.Event{EventTime: now, ReportingController: "example.com/e2e", ReportingInstance: "e2e", Action: "Look", Reason: "Seen", Type: "Normal",
				Regarding: corev1.ObjectReference{Kind: "Namespace", Name: namespace, Namespace: namespace}},
			eventsac.Event("applied", namespace).WithLabels(yes).WithEventTime(now).WithReportingController("example.com/e2e").WithReportingInstance("e2e").
				WithAction("Look").WithReason("Seen").WithType("Normal").
				WithRegarding(coreac.ObjectReference().WithKind("Namespace").WithName(namespace).WithNamespace(namespace))),
		verbs(b, "ServiceAccount", b.typed.CoreV1().ServiceAccounts(namespace),
			&corev1.ServiceAccount{}, coreac.ServiceAccount("applied", namespace).WithLabels(yes)),
	); err != nil {
		return err
	}
	return all(check(b.wire.other.Load() == others, "every answer is in protobuf"), check(b.wire.binary.Load() > 100, "answers are counted"))
}

// deployment is an apply configuration.
func deployment(name string, replicas int32) *appsac.DeploymentApplyConfiguration {
	return appsac.Deployment(name, namespace).WithSpec(appsac.DeploymentSpec().WithReplicas(replicas).
		WithSelector(metaac.LabelSelector().WithMatchLabels(map[string]string{"app": name})).
		WithTemplate(coreac.PodTemplateSpec().WithLabels(map[string]string{"app": name}).WithSpec(coreac.PodSpec().
			WithContainers(coreac.Container().WithName("web").WithImage("web:1").WithPorts(coreac.ContainerPort().WithContainerPort(80))))))
}

func subresources(b *bench) error {
	deployments, pods := b.typed.AppsV1().Deployments(namespace), b.typed.CoreV1().Pods(namespace)
	if _, err := deployments.Apply(b, deployment("scaled", 1), metav1.ApplyOptions{FieldManager: "client-go"}); err != nil {
		return err
	}
	scale, err := deployments.GetScale(b, "scaled", metav1.GetOptions{})
	if err != nil {
		return err
	}
	if err := check(scale.Spec.Replicas == 1, "scale: %v", scale); err != nil {
		return err
	}
	// Without its version: the controller writes the status meanwhile.
	scale.Spec.Replicas, scale.ResourceVersion = 2, ""
	if _, err := deployments.UpdateScale(b, "scaled", scale, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("update of scale: %w", err)
	}
	wanted := autoscalingac.Scale().WithSpec(autoscalingac.ScaleSpec().WithReplicas(3))
	if _, err := deployments.ApplyScale(b, "scaled", wanted, metav1.ApplyOptions{FieldManager: "scaler", Force: true}); err != nil {
		return fmt.Errorf("apply of scale: %w", err)
	}
	selected := metav1.ListOptions{LabelSelector: "app=scaled"}
	var list *corev1.PodList
	if err := b.eventually("three pods", func() (bool, error) {
		list, err = pods.List(b, selected)
		return err == nil && len(list.Items) == 3, err
	}); err != nil {
		return err
	}
	// A budget that lets none go: they run, so it says. (No node has them.)
	one := intstr.FromInt32(3)
	budgets := b.typed.PolicyV1().PodDisruptionBudgets(namespace)
	if _, err := budgets.Create(b, &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: "scaled"},
		Spec: policyv1.PodDisruptionBudgetSpec{MinAvailable: &one, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "scaled"}}}}, metav1.CreateOptions{}); err != nil {
		return err
	}
	for _, pod := range list.Items {
		pod.Status.Phase = corev1.PodRunning
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		if _, err := pods.UpdateStatus(b, &pod, metav1.UpdateOptions{}); err != nil {
			return fmt.Errorf("update of status: %w", err)
		}
	}
	if err := b.eventually("the budget counts them", func() (bool, error) {
		budget, err := budgets.Get(b, "scaled", metav1.GetOptions{})
		return err == nil && budget.Status.CurrentHealthy == 3, err
	}); err != nil {
		return err
	}
	eviction := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: list.Items[0].Name, Namespace: namespace}}
	err = pods.EvictV1(b, eviction)
	if err := check(apierrors.IsTooManyRequests(err) && apierrors.HasStatusCause(err, policyv1.DisruptionBudgetCause), "an eviction is refused: %v", err); err != nil {
		return err
	}
	if err := budgets.Delete(b, "scaled", metav1.DeleteOptions{}); err != nil {
		return err
	}
	if err := pods.EvictV1(b, eviction); err != nil {
		return fmt.Errorf("eviction: %w", err)
	}
	// Deletion of the Deployment takes ReplicaSet and pods with it.
	foreground := metav1.DeletePropagationForeground
	if err := deployments.Delete(b, "scaled", metav1.DeleteOptions{PropagationPolicy: &foreground}); err != nil {
		return err
	}
	return b.eventually("the Deployment goes after what it owns", func() (bool, error) {
		_, err := deployments.Get(b, "scaled", metav1.GetOptions{})
		if !apierrors.IsNotFound(err) {
			return false, err
		}
		list, err = pods.List(b, selected)
		return err == nil && len(list.Items) == 0, err
	})
}

func failures(b *bench) error {
	maps := b.typed.CoreV1().ConfigMaps(namespace)
	_, err := maps.Get(b, "none", metav1.GetOptions{})
	if err := check(apierrors.IsNotFound(err) && err.Error() == `configmaps "none" not found`, "not found: %v", err); err != nil {
		return err
	}
	made, err := maps.Create(b, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "wrong-"}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	again := made.DeepCopy()
	again.ResourceVersion = ""
	_, err = maps.Create(b, again, metav1.CreateOptions{})
	if err := check(apierrors.IsAlreadyExists(err), "already exists: %v", err); err != nil {
		return err
	}
	stale := made.DeepCopy()
	made.Data = map[string]string{"a": "1"}
	if made, err = maps.Update(b, made, metav1.UpdateOptions{}); err != nil {
		return err
	}
	stale.Data = map[string]string{"a": "2"}
	_, err = maps.Update(b, stale, metav1.UpdateOptions{})
	if err := check(apierrors.IsConflict(err), "conflict: %v", err); err != nil {
		return err
	}
	made.Data = map[string]string{"a b": ""}
	_, err = maps.Update(b, made, metav1.UpdateOptions{})
	if err := check(apierrors.IsInvalid(err) && apierrors.HasStatusCause(err, metav1.CauseTypeFieldValueInvalid), "invalid: %v", err); err != nil {
		return err
	}
	dry, err := maps.Create(b, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "dry"}}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil || dry.UID == "" {
		return fmt.Errorf("dry run: %w", err)
	}
	_, err = maps.Get(b, "dry", metav1.GetOptions{})
	if err := check(apierrors.IsNotFound(err), "a dry run leaves nothing: %v", err); err != nil {
		return err
	}
	// Ten writers, each of which must win once.
	results := make(chan error)
	for range 10 {
		go func() {
			results <- retry.RetryOnConflict(tries, func() error {
				current, err := maps.Get(b, made.Name, metav1.GetOptions{})
				if err != nil {
					return err
				}
				current.Data["a"] += "+"
				_, err = maps.Update(b, current, metav1.UpdateOptions{})
				return err
			})
		}()
	}
	for range 10 {
		if err := <-results; err != nil {
			return fmt.Errorf("retry on conflict: %w", err)
		}
	}
	made, err = maps.Get(b, made.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	return check(made.Data["a"] == "1++++++++++", "no write is lost: %v", made.Data)
}

func apply(b *bench) error {
	deployments := b.typed.AppsV1().Deployments(namespace)
	mine, other := metav1.ApplyOptions{FieldManager: "mine"}, metav1.ApplyOptions{FieldManager: "other"}
	first, err := deployments.Apply(b, deployment("front", 1), mine)
	if err != nil {
		return err
	}
	same, err := deployments.Apply(b, deployment("front", 1), mine)
	if err != nil {
		return err
	}
	if err := check(same.Generation == first.Generation, "applied again, nothing changes"); err != nil {
		return err
	}
	_, err = deployments.Apply(b, deployment("front", 2), other)
	if err := check(apierrors.IsConflict(err) && apierrors.HasStatusCause(err, metav1.CauseTypeFieldManagerConflict), "a conflict: %v", err); err != nil {
		return err
	}
	other.Force = true
	if _, err = deployments.Apply(b, deployment("front", 2), other); err != nil {
		return err
	}
	extracted, err := appsac.ExtractDeployment(same, "mine")
	if err != nil {
		return err
	}
	wanted, _ := json.Marshal(deployment("front", 1))
	had, _ := json.Marshal(extracted)
	if err := check(string(wanted) == string(had), "extracted is what was applied: %s, %s", wanted, had); err != nil {
		return err
	}
	// What its applier leaves out goes; what another one holds stays.
	last, err := deployments.Apply(b, deployment("front", 2).WithLabels(map[string]string{"tier": "front"}), mine)
	if err != nil {
		return err
	}
	if err := check(last.Labels["tier"] == "front" && *last.Spec.Replicas == 2, "applied: %v", last); err != nil {
		return err
	}
	if last, err = deployments.Apply(b, deployment("front", 2), mine); err != nil {
		return err
	}
	if err := check(len(last.Labels) == 0, "taken away: %v", last.Labels); err != nil {
		return err
	}
	status := appsac.Deployment("front", namespace).WithStatus(appsac.DeploymentStatus().
		WithConditions(appsac.DeploymentCondition().WithType("Mine").WithStatus(corev1.ConditionTrue)))
	if last, err = deployments.ApplyStatus(b, status, mine); err != nil {
		return fmt.Errorf("apply of status: %w", err)
	}
	fromStatus, err := appsac.ExtractDeploymentStatus(last, "mine")
	if err != nil {
		return err
	}
	return all(check(len(fromStatus.Status.Conditions) == 1, "extracted status: %v", fromStatus),
		deployments.Delete(b, "front", metav1.DeleteOptions{}))
}

// Enough tries for ten writers at once.
var tries = func() (backoff wait.Backoff) {
	backoff = retry.DefaultBackoff
	backoff.Steps, backoff.Factor = 100, 1
	return backoff
}()
