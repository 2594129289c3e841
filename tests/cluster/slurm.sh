#!/usr/bin/env bash
# A Slurm on loopback for tests: two nodes or more of one machine, with pretend GPUs, made and thrown away in seconds.
#   slurm.sh up DIR [NODES]        start what does not run; DIR/env sets SLURM_CONF. A short DIR: sockets have short names
#   slurm.sh down DIR              cancel all jobs, end everything, remove DIR
#   slurm.sh stop DIR WHO [SIGNAL] end `ctl` or a node, `n1`, by TERM or another signal; `up` starts it again
#   slurm.sh set DIR KEY VALUE     change a setting of the controller while it runs
#   slurm.sh cut DIR NODE | join DIR NODE     take a node off the network, and back: with NETNS only
# NETNS=NAME up: the controller (10.77.9.1) and each node (10.77.9.11, ...) in network namespaces NAME-ctl, NAME-n1, ...; only
# for root, who then talks to them by `nsenter --net=/run/netns/NAME-ctl COMMAND`.
# MIN_JOB_AGE=SECONDS up: how long Slurm remembers a job that has ended.
# Needs: apt-get install -y --no-install-recommends slurmctld slurmd slurm-client munge
set -euo pipefail
usage() { sed -n '2,8s/^# *//p' "$0" >&2; exit 2; }
[ $# -ge 2 ] || usage
verb=$1
mkdir -p "$2"
dir=$(cd "$2" && pwd)
conf=$dir/slurm.conf
export SLURM_CONF=$conf
space=$(cat "$dir/namespace" 2>/dev/null || true)

# Whether the process whose id is in a file is there and has that name. One that has ended and waits for its parent is not.
lives() {
    local pid name state
    pid=$(cat "$1" 2>/dev/null) && [ -n "$pid" ] && read -r _ name state _ 2>/dev/null < "/proc/$pid/stat" &&
        [ "$name" = "($2)" ] && [ "$state" != Z ]
}

# Ends it with a signal, with SIGKILL after five seconds.
end() {
    local file=$1 name=$2 signal=${3:-TERM} tries=0
    while lives "$file" "$name"; do
        if [ $((tries % 50)) = 0 ]; then kill "-$signal" "$(cat "$file")" 2>/dev/null || true; signal=KILL; fi
        tries=$((tries + 1))
        sleep 0.1
    done
    rm -f "$file"
}

# Runs a program where a host is.
at() {
    local host=$1
    shift
    # `ip netns exec` would hide /sys/fs/cgroup, without which slurmd does not start.
    if [ -n "$space" ]; then nsenter --net="/run/netns/$space-$host" "$@"; else "$@"; fi
}

nodes() { sed -n 's/^NodeName=\(n[0-9]*\) .*/\1/p' "$conf"; }

address() {
    case $space:$1 in
    :*) echo 127.0.0.1 ;;
    *:ctl) echo 10.77.9.1 ;;
    *) echo "10.77.9.$((10 + ${1#n}))" ;;
    esac
}

# A bridge in the controller's namespace, and a cable from it to each node's.
wire() {
    local node
    ip netns add "$space-ctl"
    ip -n "$space-ctl" link set lo up
    ip -n "$space-ctl" link add bridge type bridge
    ip -n "$space-ctl" addr add "$(address ctl)/24" dev bridge
    ip -n "$space-ctl" link set bridge up
    for node in "$@"; do
        ip netns add "$space-$node"
        ip -n "$space-$node" link set lo up
        ip -n "$space-ctl" link add "to-$node" type veth peer name cable netns "$space-$node"
        ip -n "$space-ctl" link set "to-$node" master bridge up
        ip -n "$space-$node" addr add "$(address "$node")/24" dev cable
        ip -n "$space-$node" link set cable up
    done
}

# Ports in a row that nobody listens on: the controller's, and one for each node.
free_ports() {
    local port try many=$1
    for try in $(seq 50); do
        port=$((12000 + RANDOM % 8000))
        ss -Hltn | awk '{sub(/.*:/, "", $4); print $4}' | sort -n | awk -v a="$port" -v b="$((port + many))" '$1 >= a && $1 <= b {exit 1}' &&
            { echo "$port"; return; }
    done
    echo 'no free ports' >&2
    return 1
}

configure() {
    local me host port node devices=$dir/gpu
    me=$(id -un)
    host=$(hostname -s)
    port=$(free_ports $#)
    # A GPU is a character device whose name ends in its number: for a plain file Slurm sets no CUDA_VISIBLE_DEVICES.
    mknod "${devices}0" c 1 3 2>/dev/null && mknod "${devices}1" c 1 3 || devices=/dev/tty
    echo "NodeName=n[1-$#] Name=gpu File=$devices[0-1]" > "$dir/gres.conf"
    cat > "$conf" <<END
ClusterName=tests
SlurmUser=$me
SlurmdUser=$me
SlurmctldHost=$host($(address ctl))
SlurmctldPort=$port
$([ -n "$space" ] || echo CommunicationParameters=NoCtldInAddrAny,NoInAddrAny)
AuthType=auth/munge
CredType=cred/munge
# A job that was requeued waits as long as a credential lasts, and none lasts less than five seconds.
AuthInfo=socket=$dir/munge.socket,cred_expire=5
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool/%n
SlurmctldPidFile=$dir/ctl.pid
SlurmdPidFile=$dir/%n.pid
SlurmctldLogFile=$dir/log/ctl
SlurmdLogFile=$dir/log/%n
JobCompType=jobcomp/filetxt
JobCompLoc=$dir/log/jobs
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1,sched_min_interval=50000,batch_sched_delay=0
PriorityType=priority/basic
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
# Who is preempted gets the signal that he asked for when his grace begins.
SlurmctldParameters=preempt_send_user_signal
JobRequeue=1
MinJobAge=${MIN_JOB_AGE:-300}
MaxJobCount=5000
MaxArraySize=1001
KillWait=4
InactiveLimit=0
SlurmctldTimeout=8
SlurmdTimeout=8
MessageTimeout=4
BatchStartTimeout=8
UnkillableStepTimeout=8
CompleteWait=0
ReturnToService=2
# More processors than the machine has.
SlurmdParameters=config_overrides
GresTypes=gpu
END
    for node in "$@"; do
        port=$((port + 1))
        echo "NodeName=$node NodeHostname=$host NodeAddr=$(address "$node") Port=$port CPUs=8 RealMemory=64000 Gres=gpu:2"
    done >> "$conf"
    cat >> "$conf" <<END
PartitionName=main Nodes=ALL Default=YES PriorityTier=10 PreemptMode=OFF DefMemPerCPU=100 DefaultTime=10 MaxTime=60
PartitionName=low Nodes=ALL PriorityTier=1 PreemptMode=REQUEUE GraceTime=8 DefMemPerCPU=100 DefaultTime=10 MaxTime=60
END
}

up() {
    local many=${1:-2} names node ready
    chmod 755 "$dir"
    mkdir -p "$dir"/{log,state,spool}
    names=$(seq -f 'n%g' "$many")
    if [ ! -s "$conf" ]; then
        if [ -n "${NETNS:-}" ]; then
            space=$NETNS
            echo "$space" > "$dir/namespace"
            # shellcheck disable=SC2086
            wire $names
        fi
        # shellcheck disable=SC2086
        configure $names
        (umask 077 && head -c 64 /dev/urandom > "$dir/munge.key")
    fi
    if ! lives "$dir/munge.pid" munged; then
        rm -f "$dir"/munge.socket*
        munged --force --num-threads 2 --key-file "$dir/munge.key" --socket "$dir/munge.socket" --pid-file "$dir/munge.pid" \
            --seed-file "$dir/munge.seed" --log-file "$dir/log/munge" 2>> "$dir/log/start"
    fi
    # Each goes into the background by itself and leaves its id.
    lives "$dir/ctl.pid" slurmctld || at ctl slurmctld -f "$conf" 2>> "$dir/log/start"
    for node in $(nodes); do
        mkdir -p "$dir/spool/$node"
        lives "$dir/$node.pid" slurmd || at "$node" slurmd -N "$node" -f "$conf" 2>> "$dir/log/start"
    done
    echo "export SLURM_CONF=$conf" > "$dir/env"
    many=$(nodes | wc -l)
    for _ in $(seq 300); do
        ready=$(at ctl sinfo -h -N -p main -o %t 2>/dev/null | grep -cE '^(idle|mix|alloc)$' || true)
        if [ "$ready" -ge "$many" ]; then cat "$dir/env"; return; fi
        sleep 0.1
    done
    echo "Slurm did not come up" >&2
    tail -n 5 "$dir"/log/* >&2
    return 1
}

down() {
    local node pid group
    if [ -s "$conf" ]; then
        if at ctl timeout 10 scancel --user="$(id -un)" 2>/dev/null; then
            for _ in $(seq 80); do
                [ -n "$(at ctl squeue -h -t running,completing,suspended 2>/dev/null)" ] || break
                sleep 0.1
            done
        fi
        for node in $(nodes); do end "$dir/$node.pid" slurmd; done
        end "$dir/ctl.pid" slurmctld
        # Scripts of a node that was killed know no master any more.
        for pid in $(pgrep -f "^[^ ]+ $dir/spool/n[0-9]+/job[0-9]+/slurm_script" || true); do
            group=$(ps -o pgid= -p "$pid" | tr -d ' ')
            [ -z "$group" ] || kill -KILL -- "-$group" 2>/dev/null || true
        done
    fi
    end "$dir/munge.pid" munged
    if [ -n "$space" ]; then
        ip netns list | awk '{print $1}' | grep "^$space-" | while read -r node; do ip netns delete "$node"; done
    fi
    rm -rf "$dir"
}

case $verb in
up) up "${3:-}" ;;
down) down ;;
stop)
    case ${3:?which} in
    ctl) end "$dir/ctl.pid" slurmctld "${4:-TERM}" ;;
    *) end "$dir/$3.pid" slurmd "${4:-TERM}" ;;
    esac
    ;;
set)
    sed -i "s/^${3:?key}=.*/$3=${4:?value}/" "$conf"
    at ctl scontrol reconfigure
    ;;
cut) ip -n "$space-ctl" link set "to-${3:?node}" down ;;
join) ip -n "$space-ctl" link set "to-${3:?node}" up ;;
*) usage ;;
esac
