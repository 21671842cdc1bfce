# Sourced after cluster.sh: one authority, a certificate and a kubeconfig per component.

certificate() { # name subject usage [alternative names]
  openssl req -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 \
    -keyout "$PKI/$1.key" -out "$PKI/$1.csr" -subj "$2" 2>/dev/null
  openssl x509 -req -in "$PKI/$1.csr" -CA "$PKI/ca.crt" -CAkey "$PKI/ca.key" -CAcreateserial -days 3650 \
    -extfile <(printf 'basicConstraints=CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=%s\n%s\n' \
      "$3" "${4:+subjectAltName=$4}") -out "$PKI/$1.crt" 2>/dev/null
  rm -f "$PKI/$1.csr"
}

kubeconfig() { # name
  cat > "$PKI/$1.kubeconfig" <<KUBECONFIG
apiVersion: v1
kind: Config
clusters: [{name: voluba-align, cluster: {server: "$API_URL", certificate-authority-data: $(base64 -w0 < "$PKI/ca.crt")}}]
users: [{name: $1, user: {client-certificate-data: $(base64 -w0 < "$PKI/$1.crt"), client-key-data: $(base64 -w0 < "$PKI/$1.key")}}]
contexts: [{name: voluba-align, context: {cluster: voluba-align, user: $1}}]
current-context: voluba-align
KUBECONFIG
}

make_certificates() {
  local name
  [ -f "$PKI/complete" ] && return 0
  (umask 077 && mkdir -p "$PKI")
  openssl req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 -keyout "$PKI/ca.key" -out "$PKI/ca.crt" \
    -days 3650 -subj /CN=voluba-align-test -addext basicConstraints=critical,CA:TRUE \
    -addext keyUsage=critical,keyCertSign,cRLSign,digitalSignature 2>/dev/null
  certificate apiserver /CN=kube-apiserver serverAuth \
    "DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,IP:127.0.0.1,IP:$SERVICE_NETWORK.1,IP:$LINK_NETWORK.2,IP:$POD_NETWORK.1"
  certificate apiserver-kubelet /O=system:masters/CN=kube-apiserver-kubelet-client clientAuth
  certificate admin /O=system:masters/CN=admin clientAuth
  certificate controller-manager /CN=system:kube-controller-manager clientAuth
  certificate scheduler /CN=system:kube-scheduler clientAuth
  certificate kubelet "/O=system:nodes/CN=system:node:$NODE_NAME" clientAuth,serverAuth "DNS:$NODE_NAME,IP:127.0.0.1"
  openssl ecparam -name prime256v1 -genkey -noout -out "$PKI/sa.key" 2>/dev/null
  openssl ec -in "$PKI/sa.key" -pubout -out "$PKI/sa.pub" 2>/dev/null
  for name in admin controller-manager scheduler kubelet; do kubeconfig "$name"; done
  touch "$PKI/complete"
}
