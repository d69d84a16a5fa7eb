#!/bin/sh
# Stock Helm on the cluster of $KUBECONFIG, whose node has the image busybox:1. Each step says what it does.
set -eu
chart=$(dirname "$0")/chart
namespace=helm
work=$(mktemp -d)
export HELM_CACHE_HOME="$work/cache" HELM_CONFIG_HOME="$work/config" HELM_DATA_HOME="$work/data" HELM_NAMESPACE="$namespace"
step=begin

finish() {
	code=$?
	trap - EXIT
	if [ $code != 0 ]; then
		echo "FAIL $step"
		tail -n 20 "$work/said" || true
		kubectl -n "$namespace" get pods,jobs,events || true
	fi
	rm -rf "$work"
	exit $code
}
trap finish EXIT

step() {
	[ "$step" = begin ] || echo "ok   $step"
	step=$1
}

# says PATTERN COMMAND...: the command succeeds, and a line of what it says matches.
says() {
	pattern=$1
	shift
	"$@" >"$work/said" 2>&1
	grep -q -e "$pattern" "$work/said"
}

# refused PATTERN COMMAND...: the command fails, and a line of what it says matches.
refused() {
	pattern=$1
	shift
	! "$@" >"$work/said" 2>&1
	grep -q -e "$pattern" "$work/said"
}

# is WANT PATH OBJECT: a field of an object.
is() {
	kubectl -n "$namespace" get "$3" -o "jsonpath={$2}" >"$work/said" 2>&1
	[ "$(cat "$work/said")" = "$1" ]
}

# gone OBJECT
gone() {
	refused NotFound kubectl -n "$namespace" get "$1"
}

step "lint, template, a dry run on the server"
says '0 chart(s) failed' helm lint "$chart"
says 'kind: Gadget' helm template web "$chart" --include-crds
kubectl create namespace "$namespace" >"$work/said"
refused "minimum: got 0, want 1" helm install web "$chart" --set replicas=0
gone configmap/web-side

step "install --wait: crds/, a pre-install Job, the subchart, lookups"
says '^It says one' helm install web "$chart" --set message=one --wait --timeout 3m
is 1 .status.succeeded job/web-before
is 2 .status.readyReplicas deployment/web
is 3 .spec.size gadgets.helm.example.com/web
is 'red e2e' '.data.color} {.data.team' configmap/web-side
is "$(kubectl get namespace "$namespace" -o 'jsonpath={.metadata.uid}')" .data.namespace configmap/web-config
is "$(kubectl get namespaces -o name | wc -l) true 36" '.data.namespaces} {.data.batch} {.data.version' configmap/web-config
is Helm '.metadata.labels.app\.kubernetes\.io/managed-by' deployment/web
secret=$(kubectl -n "$namespace" get configmap web-config -o 'jsonpath={.data.secret}')
refused 'cannot reuse a name' helm install web "$chart"

step "list, status, get"
says '^web.*deployed.*web-0.1.0' helm list
says '^STATUS: deployed' helm status web
says '^message: one' helm get values web
says '^tag: "1"' helm get values web --all
says '^kind: Deployment' helm get manifest web
says 'helm.sh/hook: pre-install' helm get hooks web
says 'It says one' helm get notes web
says '^REVISION: 1' helm get metadata web
is helm.sh/release.v1 .type secret/sh.helm.release.v1.web.v1

step "test, with the log of its pod"
says '^one$' helm test web --logs --timeout 2m

step "upgrade --wait: a post-upgrade Job; what was looked up stays"
gone job/web-after
says '^It says two' helm upgrade web "$chart" --set message=two,side.enabled=false --wait --timeout 3m
is 1 .status.succeeded job/web-after
is "$secret" .data.secret configmap/web-config
gone configmap/web-side
says '^two$' helm test web --logs --timeout 2m

step "an upgrade that fails is taken back"
refused 'has been rolled back\|rolled back due to' helm upgrade web "$chart" --set message=three,tag=none --rollback-on-failure --wait --timeout 20s
says '^3 .*failed' helm history web
says '^4 .*deployed.*Rollback to 2' helm history web
is two '.data.index\.html' configmap/web-config
is busybox:1 '.spec.template.spec.containers[0].image' deployment/web

step "rollback"
says 'Rollback was a success' helm rollback web 1 --wait --timeout 3m
is one '.data.index\.html' configmap/web-config
is red .data.color configmap/web-side
says '^5 .*deployed.*Rollback to 1' helm history web

step "upgrade --install of another release, on the client's side"
says 'does not exist. Installing' helm upgrade --install other "$chart" --set replicas=1 --server-side=false --wait --timeout 3m
says 'has been upgraded' helm upgrade --install other "$chart" --set replicas=1,message=again --wait --timeout 3m
is again '.data.index\.html' configmap/other-config

step "uninstall: all goes but crds/"
says 'release "web" uninstalled' helm uninstall web --wait --timeout 2m
says 'release "other" uninstalled' helm uninstall other --wait --timeout 2m
for object in deployment/web service/web configmap/web-config configmap/web-side gadgets.helm.example.com/web secret/sh.helm.release.v1.web.v5; do gone "$object"; done
kubectl get customresourcedefinition gadgets.helm.example.com >"$work/said"
kubectl delete customresourcedefinition gadgets.helm.example.com >"$work/said"
kubectl delete namespace "$namespace" >"$work/said"
step end
