# Sourced after common.sh: names, folders, ports and addresses of one instance of the test cluster,
# and how its processes are started and found again. What runs is decided elsewhere.
#
#   VOLUBA_CLUSTER_DIR        everything the instance writes (default: below XDG_STATE_HOME)
#   VOLUBA_CLUSTER_PORT_BASE  first of its ports; names, addresses and cgroups follow from it, so that
#                             instances with different bases do not meet (steps of 8, default 16440)

CLUSTER=${VOLUBA_CLUSTER_DIR:-${XDG_STATE_HOME:-$HOME/.local/state}/voluba-align/cluster}
PORT_BASE=${VOLUBA_CLUSTER_PORT_BASE:-16440}
case $CLUSTER in /*) ;; *) die "VOLUBA_CLUSTER_DIR must be an absolute path, not '$CLUSTER'" ;; esac
# Unix sockets below it may have at most 107 characters, and rm -rf is used on it.
[ "${#CLUSTER}" -le 75 ] || die "VOLUBA_CLUSTER_DIR is longer than 75 characters: $CLUSTER"
case $PORT_BASE in ''|*[!0-9]*) die "VOLUBA_CLUSTER_PORT_BASE must be a number, not '$PORT_BASE'" ;; esac
[ "$PORT_BASE" -ge 1024 ] && [ "$PORT_BASE" -le 65528 ] \
  || die "VOLUBA_CLUSTER_PORT_BASE must lie between 1024 and 65528, not $PORT_BASE"

PKI=$CLUSTER/pki RUN=$CLUSTER/run LOGS=$CLUSTER/logs NODE=$CLUSTER/node VOLUMES=$CLUSTER/volumes
ETCD_PORT=$PORT_BASE
ETCD_PEER_PORT=$((PORT_BASE + 1))
CONTROLLER_MANAGER_PORT=$((PORT_BASE + 3))
SCHEDULER_PORT=$((PORT_BASE + 4))
KUBELET_PORT=$((PORT_BASE + 5))
KUBELET_HEALTH_PORT=$((PORT_BASE + 6))

INSTANCE=voluba$PORT_BASE            # the veth on the host, and the cgroup
NODE_NAME=localhost                  # the API server finds the kubelet by this name
SERVICE_NETWORK=10.96.0
NETWORK_NUMBER=$((PORT_BASE / 8 % 100 * 2))
LINK_NETWORK=10.213.$NETWORK_NUMBER  # host (.1) to cluster (.2)
POD_NETWORK=10.213.$((NETWORK_NUMBER + 1))

# With a node, everything lives in its own network namespace and the API server listens on port 443
# of every address there, the first one of the service network among them: pods need no kube-proxy
# and no address translation. Without a node, it listens on the loopback of the machine.
set_mode() { # node | control-plane
  MODE=$1
  if [ "$MODE" = node ]; then
    API_BIND=0.0.0.0 API_PORT=443 API_ADDRESS=$LINK_NETWORK.2 API_ADVERTISE=$POD_NETWORK.1
    API_URL=https://$API_ADDRESS
  else
    API_BIND=127.0.0.1 API_PORT=$((PORT_BASE + 2)) API_ADDRESS=127.0.0.1 API_ADVERTISE=127.0.0.1
    API_URL=https://127.0.0.1:$API_PORT
  fi
  # kubectl and curl would otherwise ask a configured proxy for addresses of this machine.
  NO_PROXY=$API_ADDRESS,127.0.0.1,localhost${NO_PROXY:+,$NO_PROXY} no_proxy=$NO_PROXY
  export MODE NO_PROXY no_proxy
}

# The process of a component, if it runs. A reused number is not mistaken for it, since each
# component has the folder of the instance in its arguments.
component_pid() { # name
  local pid
  [ -f "$RUN/$1.pid" ] || return 1
  pid=$(cat "$RUN/$1.pid")
  [ -r "/proc/$pid/cmdline" ] && tr '\0' '\n' 2>/dev/null < "/proc/$pid/cmdline" | grep -qF -- "$CLUSTER" || return 1
  echo "$pid"
}

# EPHEMERAL instances die with the script that started them, however it ends.
start() { # name command...
  local name=$1 wrapper=() _
  shift
  component_pid "$name" >/dev/null && return 0
  [ -z "${EPHEMERAL:-}" ] || wrapper=(setpriv --pdeathsig KILL)
  setsid "${wrapper[@]}" "$@" > "$LOGS/$name.log" 2>&1 < /dev/null 9>&- &
  echo $! > "$RUN/$name.pid"
  # Until it has become the command, the new process looks like this script, hence not like the
  # component: on a busy machine that was taken for its end.
  for _ in $(seq 1 6000); do
    ! component_pid "$name" >/dev/null || break
    kill -0 $! 2>/dev/null || break
    sleep 0.01
  done
}

# Waits until a command succeeds; fails at once when the component has died.
wait_for() { # component seconds command...
  local name=$1 end=$((SECONDS + $2))
  shift 2
  until "$@" >/dev/null 2>&1; do
    # While one program takes the place of another, its command line is empty for a moment.
    if ! component_pid "$name" >/dev/null && sleep 0.5 && ! component_pid "$name" >/dev/null; then
      tail -n 5 "$LOGS/$name.log" >&2
      die "$name ended; its log is $LOGS/$name.log"
    fi
    [ "$SECONDS" -lt "$end" ] || die "$name is not ready after the time allowed; its log is $LOGS/$name.log"
    sleep 0.1
  done
}

stop() { # name
  local pid _
  pid=$(component_pid "$1") || { rm -f "$RUN/$1.pid"; return 0; }
  kill "$pid" 2>/dev/null || true
  for _ in $(seq 1 100); do
    component_pid "$1" >/dev/null || break
    sleep 0.1
  done
  ! component_pid "$1" >/dev/null || kill -KILL "$pid" 2>/dev/null || true
  rm -f "$RUN/$1.pid"
}

# Prints a step with the seconds since the previous one.
microseconds() { echo "${EPOCHREALTIME/[.,]/}"; }
STEP_START=$(microseconds)
step() {
  local now elapsed
  now=$(microseconds)
  elapsed=$(((now - STEP_START) / 100000))
  STEP_START=$now
  say "$(printf '%5d.%d s  %s' $((elapsed / 10)) $((elapsed % 10)) "$*")"
}

admin() { "$BIN/kubectl" --kubeconfig "$PKI/admin.kubeconfig" "$@"; }
