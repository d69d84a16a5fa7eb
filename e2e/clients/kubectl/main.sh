#!/usr/bin/env bash
# kubectl's own tests, as Kubernetes has them in test/cmd: `main.sh SOURCE PORT WORK`, of a server that takes its tokens.
#
# They are run by upstream's own list; what each of them says comes to lie in WORK/kubectl, its last lines are shown if it
# fails. With WHAT="crd pod" only those are run.
set -o errexit -o nounset -o pipefail
source=$1 work=$3
export SECURE_API_PORT=$2 LOGS=$work/kubectl
export TMPDIR=$work/tmp HOME=$work/home KUBE_TEMP=$work/tmp THIS_PLATFORM_BIN=$work/bin
# Our version need not be kubectl's to the patch.
export ALLOW_SKEW=true SUPPORTED_RESOURCES='*' CONTEXT=test
mkdir -p "$LOGS" "$TMPDIR" "$HOME" "$work/source/test/e2e" "$work/source/third_party/forked/shell2junit"

# The tests write where they lie.
cp -r "$source/hack" "$work/source"
cp -r "$source/test/cmd" "$source/test/fixtures" "$work/source/test"
cp -r "$source/test/e2e/testing-manifests" "$work/source/test/e2e"
chmod -R u+w "$work/source"
cd "$work/source"

# Upstream's list has each test run by a function of this name from a library that the module does not carry.
cat >third_party/forked/shell2junit/sh2ju.sh <<'EOF'
juLog() {
	shift 3
	local begin=$SECONDS code verdict=ok
	(set -o errexit -o nounset -o pipefail; "$@") >"$LOGS/$1" 2>&1 </dev/null
	code=$?
	[ $code = 0 ] || verdict=FAILED
	echo "$1: $verdict, $((SECONDS - begin)) s"
	[ $code = 0 ] || tail -n 20 "$LOGS/$1"
	return $code
}
EOF
unset KUBECONFIG
KUBE_ROOT=$PWD
source hack/lib/util.sh
source hack/lib/logging.sh
source hack/lib/test.sh
source test/cmd/legacy-script.sh >/dev/null
SED=sed

command -v kubectl-convert >/dev/null || run_convert_tests() { echo "kubectl-convert is not here"; }
curl -fsIo /dev/null --max-time 10 https://raw.githubusercontent.com || run_multi_resources_tests() { echo "its objects are not here"; }

kubectl config set-credentials test-admin --token admin-token
kubectl config set-cluster local --insecure-skip-tls-verify --server "https://127.0.0.1:$SECURE_API_PORT"
kubectl config set-context $CONTEXT --user test-admin --cluster local
kubectl config use-context $CONTEXT
# There is no kubelet; without an annotation nobody would own a field of it.
kubectl create -f - <<EOF
{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "127.0.0.1", "annotations": {"save-managers": "true"}},
	"status": {"capacity": {"memory": "1Gi"}}}
EOF
# In a condition the shell would go on after an error.
set +o errexit
(set -o errexit; runTests) >"$LOGS/all" 2>&1
code=$?
set -o errexit
grep -E '^run_[A-Za-z_]*: (ok|FAILED)' "$LOGS/all"
[ $code = 0 ] || tail -n 40 "$LOGS/all"
exit $code
