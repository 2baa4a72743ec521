#!/usr/bin/env bash
# Single-node Slurm for tests:  tools/slurm_node.sh install | start FOLDER | stop FOLDER
#   install   install the Debian packages if possible; fails if programs are missing afterwards
#   start     start munged, slurmctld and slurmd with all files in FOLDER; prints SLURM_CONF
#   stop      stop the three daemons
# The system configuration is not changed: several instances can run at once, also next to a system
# Slurm and without root.
set -euo pipefail

readonly PROGRAMS=(munged mungekey slurmctld slurmd sbatch)
export PATH=$PATH:/usr/sbin

die() {
    echo "ERROR: $*" >&2
    exit 1
}
missing() {
    local program
    for program in "${PROGRAMS[@]}"; do
        command -v "$program" > /dev/null || echo "$program"
    done
}

install_packages() {
    [[ -n $(missing) ]] || return 0
    if [[ $EUID -eq 0 ]] && command -v apt-get > /dev/null; then
        export DEBIAN_FRONTEND=noninteractive
        { apt-get -qq update && apt-get -qq install -y --no-install-recommends munge slurmctld slurmd slurm-client; } \
            < /dev/null > /dev/null 2>&1 || true
    fi
    [[ -z $(missing) ]] || die "not found: $(missing | paste -sd ' '); install Slurm (Debian: munge slurmctld slurmd slurm-client)"
}

# Prints a free port.
free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])'
}

write_configuration() {
    local folder=$1 host
    host=$(hostname -s)
    cat > "$folder/slurm.conf" <<END
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
CryptoType=crypto/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,defer_batch
# Memory is monitored, not limited by cgroups, which are not available in every container.
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc=$folder/jobs.log
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=5
MinJobAge=300
ReturnToService=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(env -u OMP_NUM_THREADS nproc) RealMemory=$(($(awk '/MemTotal/ {print $2}' /proc/meminfo) / 1024 * 9 / 10)) State=UNKNOWN
PartitionName=work Nodes=$host Default=YES MaxTime=7-0 PriorityTier=1 State=UP
PartitionName=urgent Nodes=$host MaxTime=7-0 PriorityTier=2 State=UP
END
}

start() {
    local folder=$1 tries
    mkdir -p "$folder"/{state,spool}
    chmod 0755 "$folder"
    [[ -f $folder/munge.key ]] || mungekey --create --keyfile "$folder/munge.key"
    munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
        --log-file="$folder/munged.log" --seed-file="$folder/munged.seed"
    write_configuration "$folder"
    export SLURM_CONF=$folder/slurm.conf
    slurmctld
    slurmd
    for ((tries = 0; tries < 100; tries++)); do
        [[ $(sinfo -h -o %T 2> /dev/null | head -n 1) != idle ]] || {
            echo "SLURM_CONF=$folder/slurm.conf"
            return
        }
        sleep 0.2
    done
    sinfo -R >&2 || true
    tail -n 5 "$folder"/slurm*.log >&2
    die "the node did not start; see $folder/slurmctld.log and $folder/slurmd.log"
}

stop() {
    local folder=$1 name
    for name in slurmd slurmctld munged; do
        [[ ! -s $folder/$name.pid ]] || kill "$(< "$folder/$name.pid")" 2> /dev/null || true
    done
}

case ${1:-} in
    install) install_packages ;;
    start | stop) "$1" "$(realpath -m "${2:?which folder?}")" ;;
    *) die "usage: tools/slurm_node.sh install | start FOLDER | stop FOLDER" ;;
esac
