#!/usr/bin/env bash
# A SLURM of one node on this machine, for tests: slurm.sh start FOLDER, slurm.sh stop FOLDER. As root, with Debian's
# slurm-wlm and munge; nothing outside the folder is written. Then export SLURM_CONF=FOLDER/slurm.conf.
set -euo pipefail
folder=$(realpath "$2")

start() {
  mkdir -p "$folder"/{state,spool}
  # munged refuses a folder that others may write to.
  chmod 0755 "$folder"
  (umask 077 && head -c 1024 /dev/urandom >"$folder/munge.key")
  cat >"$folder/slurm.conf" <<CONF
ClusterName=tests
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=6827
SlurmdPort=6828
SlurmUser=root
AuthType=auth/munge
# cred_expire: else a job that is put into the queue again waits for two minutes
AuthInfo=socket=$folder/munge.socket,cred_expire=5
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
# Else a job that is put into the queue again waits for half a minute.
SchedulerParameters=sched_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=localhost NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=tests Nodes=localhost Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=localhost MaxTime=INFINITE State=UP PriorityTier=2
PartitionName=short Nodes=localhost MaxTime=1 State=UP
CONF
  export SLURM_CONF="$folder/slurm.conf"
  munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
    --log-file="$folder/munged.log" --seed-file="$folder/munged.seed"
  slurmctld -c
  slurmd -N localhost
  for _ in $(seq 60); do
    if sinfo --noheader --format=%T 2>/dev/null | grep -q idle; then return; fi
    sleep 1
  done
  echo "slurm has not come up; see $folder/slurmctld.log" >&2
  return 1
}

stop() {
  export SLURM_CONF="$folder/slurm.conf"
  # The jobs first: they outlive the daemons.
  timeout 20 scancel --user="$(id -un)" || true
  for _ in $(seq 20); do
    if [ -z "$(timeout 20 squeue --noheader 2>/dev/null)" ]; then break; fi
    sleep 1
  done
  for name in slurmd slurmctld munged; do
    if [ -s "$folder/$name.pid" ]; then kill "$(cat "$folder/$name.pid")" || true; fi
  done
}

"$1"
