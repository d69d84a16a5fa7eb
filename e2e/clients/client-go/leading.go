// Leader election, recorders of events, and tokens.
package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcore "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	eventtools "k8s.io/client-go/tools/events"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/tools/record"
)

func election(b *bench) error {
	leads := make(chan string, 10)
	stand := func(name string) (context.CancelFunc, <-chan struct{}, error) {
		elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
			Lock: &resourcelock.LeaseLock{LeaseMeta: metav1.ObjectMeta{Namespace: namespace, Name: "leader"}, Client: b.typed.CoordinationV1(),
				LockConfig: resourcelock.ResourceLockConfig{Identity: name}},
			LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 200 * time.Millisecond,
			ReleaseOnCancel: true, Name: name,
			Callbacks: leaderelection.LeaderCallbacks{OnStartedLeading: func(context.Context) { leads <- name }, OnStoppedLeading: func() {}},
		})
		if err != nil {
			return nil, nil, err
		}
		ctx, cancel := context.WithCancel(b)
		ended := make(chan struct{})
		go func() { elector.Run(ctx); close(ended) }()
		return cancel, ended, nil
	}
	next := func(name string) error {
		select {
		case leader := <-leads:
			return check(leader == name, "%s leads, not %s", leader, name)
		case <-time.After(patience):
			return fmt.Errorf("%s does not lead", name)
		}
	}
	stopFirst, ended, err := stand("first")
	if err != nil {
		return err
	}
	if err := next("first"); err != nil {
		return err
	}
	stopSecond, _, err := stand("second")
	if err != nil {
		return err
	}
	defer stopSecond()
	stopFirst()
	<-ended
	if err := next("second"); err != nil {
		return err
	}
	lease, err := b.typed.CoordinationV1().Leases(namespace).Get(b, "leader", metav1.GetOptions{})
	if err != nil {
		return err
	}
	return check(*lease.Spec.HolderIdentity == "second" && *lease.Spec.LeaseTransitions >= 1, "the lease: %v", lease.Spec)
}

func events(b *bench) error {
	object, err := b.typed.CoreV1().ConfigMaps(namespace).Create(b, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "told-of"}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	core := record.NewBroadcaster(record.WithContext(b))
	core.StartRecordingToSink(&typedcore.EventSinkImpl{Interface: b.typed.CoreV1().Events(namespace)})
	defer core.Shutdown()
	recorder := core.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "old-recorder"})
	newer := eventtools.NewBroadcaster(&eventtools.EventSinkImpl{Interface: b.typed.EventsV1()})
	if err := newer.StartRecordingToSinkWithContext(b); err != nil {
		return err
	}
	defer newer.Shutdown()
	series := newer.NewRecorder(scheme.Scheme, "new-recorder")
	for range 3 {
		recorder.Eventf(object, corev1.EventTypeWarning, "Seen", "seen by %s", "the old recorder")
		series.Eventf(object, nil, corev1.EventTypeNormal, "Seen", "Look", "seen by %s", "the new recorder")
	}
	// Each group shows the events of the other one.
	var told string
	err = b.eventually("the events", func() (bool, error) {
		list, err := b.typed.CoreV1().Events(namespace).List(b, metav1.ListOptions{FieldSelector: "involvedObject.name=told-of,reason=Seen"})
		if err != nil {
			return false, err
		}
		newer, err := b.typed.EventsV1().Events(namespace).List(b, metav1.ListOptions{FieldSelector: "reason=Seen,regarding.name=told-of"})
		if err != nil {
			return false, err
		}
		var lines []string
		for _, event := range list.Items {
			seriesCount := int32(0)
			if event.Series != nil {
				seriesCount = event.Series.Count
			}
			lines = append(lines, fmt.Sprintf("%s%s %d %d", event.Source.Component, event.ReportingController, event.Count, seriesCount))
		}
		told = strings.Join(lines, ", ")
		return len(newer.Items) == 2 && strings.Contains(told, "old-recorder 3 0") && strings.Contains(told, "new-recorder 0 "), nil
	})
	if err != nil {
		return fmt.Errorf("%w: %s", err, told)
	}
	return nil
}

func tokens(b *bench) error {
	accounts := b.typed.CoreV1().ServiceAccounts(namespace)
	hour := int64(3600)
	answer, err := accounts.CreateToken(b, "default", &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &hour}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	config := rest.AnonymousClientConfig(b.config)
	config.BearerToken = answer.Status.Token
	holder, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	name := "system:serviceaccount:" + namespace + ":default"
	me, err := holder.AuthenticationV1().SelfSubjectReviews().Create(b, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	review, err := b.typed.AuthenticationV1().TokenReviews().Create(b, &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: answer.Status.Token}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	if err := all(check(me.Status.UserInfo.Username == name, "who it is: %v", me.Status),
		check(review.Status.Authenticated && review.Status.User.Username == name, "a review: %v", review.Status)); err != nil {
		return err
	}
	_, err = holder.CoreV1().ConfigMaps(namespace).List(b, metav1.ListOptions{})
	if err := check(apierrors.IsForbidden(err), "it may not: %v", err); err != nil {
		return err
	}
	if _, err := b.typed.RbacV1().RoleBindings(namespace).Create(b, &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "viewer"},
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "view"},
		Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Name: "default", Namespace: namespace}}}, metav1.CreateOptions{}); err != nil {
		return err
	}
	if err := b.eventually("the binding counts", func() (bool, error) {
		_, err := holder.CoreV1().ConfigMaps(namespace).List(b, metav1.ListOptions{})
		if apierrors.IsForbidden(err) {
			return false, nil
		}
		return err == nil, err
	}); err != nil {
		return err
	}
	may := func(verb string) (bool, error) {
		answer, err := holder.AuthorizationV1().SelfSubjectAccessReviews().Create(b, &authorizationv1.SelfSubjectAccessReview{
			Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: namespace, Verb: verb, Resource: "configmaps"}}}, metav1.CreateOptions{})
		return err == nil && answer.Status.Allowed, err
	}
	list, err := may("list")
	if err != nil {
		return err
	}
	remove, err := may("delete")
	if err != nil {
		return err
	}
	return check(list && !remove, "it may list (%t) and not delete (%t)", list, remove)
}
