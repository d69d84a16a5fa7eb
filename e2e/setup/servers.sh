# Sourced by what runs API servers on loopback; their data lies in a temporary folder, $data. Processes are ended at the
# end, the last one first: a kube-apiserver does not end once its etcd is gone.
data=$(mktemp -d)
pids=
end() {
    for pid in $pids; do kill "$pid" 2>/dev/null && wait "$pid" || true; done
    pids=
}
finish() {
    end
    rm -rf "$data"
}
trap finish EXIT
trap 'exit 1' INT TERM

# Waits for the server on this port.
ready() {
    local begun=$(date +%s%N)
    until curl -fsk --max-time 1 "https://127.0.0.1:$1/readyz" >/dev/null 2>&1; do
        [ $((($(date +%s%N) - begun) / 1000000)) -lt 120000 ] || { echo "the server does not become ready" >&2; exit 1; }
    done
    echo "$(((($(date +%s%N) - begun)) / 1000000)) ms until /readyz"
}

# keelson PROGRAM PORT [FLAG...]
keelson() {
    local program=$1 port=$2
    shift 2
    "$program" --log warn apiserver --data-dir "$data/keelson" --bind-address 127.0.0.1 --secure-port "$port" "$@" &
    pids="$! $pids"
    ready "$port"
}

# stock FOLDER PORT [FLAG...]: FOLDER holds kube-apiserver and etcd, which listens on the two ports after PORT. It takes
# the certificates of the Keelson before it, so that the same clients may use both.
stock() {
    local folder=$1 port=$2
    shift 2
    local pki=$data/keelson/pki client=http://127.0.0.1:$((port + 1)) peer=http://127.0.0.1:$((port + 2))
    openssl ec -in "$pki/sa.key" -pubout -out "$data/sa.pub" 2>/dev/null
    "$folder/etcd" --data-dir "$data/etcd" --listen-client-urls "$client" --advertise-client-urls "$client" \
        --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" --initial-cluster "default=$peer" \
        >"$data/etcd.log" 2>&1 &
    pids="$! $pids"
    "$folder/kube-apiserver" --etcd-servers "$client" --bind-address 127.0.0.1 --secure-port "$port" \
        --authorization-mode Node,RBAC --client-ca-file "$pki/ca.crt" \
        --tls-cert-file "$pki/apiserver.crt" --tls-private-key-file "$pki/apiserver.key" \
        --service-account-issuer https://kubernetes.default.svc --service-account-key-file "$data/sa.pub" \
        --service-account-signing-key-file "$pki/sa.key" "$@" >"$data/stock.log" 2>&1 &
    pids="$! $pids"
    ready "$port"
}
