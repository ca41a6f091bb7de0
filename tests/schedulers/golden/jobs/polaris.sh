#!/bin/bash
# shellcheck disable=SC1090,SC1091,SC2016,SC2034,SC2209 # the lines of a site; names that hold a $ or are a command
# 10 runs of the collection example, several runs a task; the first is param_k3jz6v2a4q7m/single_day0 (factors_dim=2)
# Which task does which run, and in which attempt: tasks.tsv beside this script.
# What a task prints: log.txt in the folder of its attempt, and output/ beside this script for the queue itself.
# Exit status: 0 done (or another task owns the run), 1 failed, 3 cannot start, 65 bad data, 75 checkpointed.
# Written by lfadsrm_hpc: submit the runs again rather than edit it.
#PBS -S /bin/bash
#PBS -N lf4B6A1D0E9F0
#PBS -v LFADSRM_SUBMISSION=01J9ZK3V5Q8N7M2C4B6A1D0E9F
#PBS -J 0-2%2
#PBS -q preemptable
#PBS -A lab01
#PBS -l select=1:ncpus=64:ngpus=4:system=polaris
#PBS -l walltime=4:00:00
#PBS -l filesystems=home:scratch
#PBS -r y
#PBS -j oe
#PBS -o /data/lab/runs/example/.lfadsrm/submissions/01J9ZK3V5Q8N7M2C4B6A1D0E9F/output/
#PBS -m n
#PBS -l place=scatter

if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 402)); then
  echo "error: this script needs bash 4.2 or later, and this is $BASH_VERSION" >&2
  exit 3
fi

# ---- which run -------------------------------------------------------------------------------------------

lf_collection=/data/lab/runs/example
lf_submission=01J9ZK3V5Q8N7M2C4B6A1D0E9F
lf_folder=/data/lab/runs/example/.lfadsrm/submissions/01J9ZK3V5Q8N7M2C4B6A1D0E9F
lf_outbox=/data/lab/runs/example/.lfadsrm/outbox
lf_cluster=polaris
lf_chunk=0
lf_job=${PBS_ARRAY_ID:-${PBS_JOBID/\[*\]/[]}}
lf_task=$PBS_ARRAY_INDEX
lf_output='' # PBS itself copies what comes before the log is found into output/, at the end of the job
lf_deadline=$(($(date +%s) + 14400 - 300)) # when to checkpoint: the walltime, less 300 s
lf_child=''       # the process of the task
lf_child_start='' # when it began: with its number, its name for good
lf_code=''        # its exit status
lf_asked=''       # the signal that asked it to stop
lf_told=''        # it has been told so
lf_signals=0
lf_why=''         # why the task could not begin

lf_say() { printf '%(%Y-%m-%d %H:%M:%S)T  %s\n' -1 "$*" >&2; }

lf_fail() {
  lf_why=$*
  lf_say "error: $*"
  exit 3
}

lf_alive() {
  lfadsrm_read_start "$lf_child"
  [[ -n $lf_child_start && $lfadsrm_start == "$lf_child_start" ]]
}

lf_ignores_int() { # PID
  local key value
  while read -r key value; do
    if [[ $key == SigIgn: ]]; then return $(((0x${value: -4} & 2) == 0)); fi
  done 2>/dev/null <"/proc/$1/status"
  return 1
}

# A signal must not kill the task before it can catch it, so it begins with signals ignored. One that came so
# early is lost: once asked to, the task is told to stop again and again until it has gone.
# (Bash cannot catch what it began with ignored: the queue begins without, and catches them first of all.)
lf_tell() { # SIGNAL
  lf_told=$1
  kill -s "$1" "$lf_child" 2>/dev/null
  (
    trap '' TERM INT USR1 USR2
    while sleep 3 && lf_alive; do kill -s "$1" "$lf_child"; done
  ) 2>/dev/null &
}

# shellcheck disable=SC2317 # called by the traps
lf_on_signal() { # SIGNAL: pass it on; the task checkpoints and ends
  lf_signals=$((lf_signals + 1))
  if [[ -n $lf_asked ]]; then
    [[ -z $lf_child_start ]] || kill -s "$1" "$lf_child" 2>/dev/null
    return
  fi
  lf_asked=$1
  lf_say "signal $1: the task is told to checkpoint and end"
  [[ -z $lf_child_start ]] || lf_tell "$1"
}
trap 'lf_on_signal TERM' TERM
trap 'lf_on_signal TERM' INT
trap 'lf_on_signal USR2' USR1 USR2

# Included by scripts that start tasks. Needs bash 4.2, grep and coreutils; defines functions.

# lfadsrm_read_start PID: put the start of a living process, in clock ticks since the boot, into lfadsrm_start, or
# nothing. With the pid and the boot it names one process for good. No subshell: a signal that all processes get,
# such as Ctrl-C, would kill it, and a living process would seem to have ended.
lfadsrm_read_start() {
    local stat="" fields
    lfadsrm_start=""
    { read -r -d '' stat < "/proc/$1/stat"; } 2> /dev/null || :
    [ -n "$stat" ] || return 0
    read -r -a fields <<< "${stat##*)}" # the second field may hold blanks: cut at the last ')'
    case ${fields[0]} in
        [ZXx]) ;; # ended; only its parent has not looked yet
        *) lfadsrm_start=${fields[19]} ;;
    esac
}

# lfadsrm_oom_kills: how many processes of this job the kernel has killed because its memory was used up, as far
# as its control group tells (cgroups v1 and v2; elsewhere 0).
lfadsrm_oom_kills() {
    local controllers group file="" line count=0
    while IFS=: read -r _ controllers group; do
        case ",$controllers," in
            ,,) # v2: the nearest group upwards that accounts for memory counts those below it
                group=/sys/fs/cgroup$group
                while [ ! -e "$group/memory.events" ] && [ "$group" != /sys/fs/cgroup ] && [ -n "$group" ]; do
                    group=${group%/*}
                done
                file=$group/memory.events
                ;;
            *,memory,*) file=/sys/fs/cgroup/memory$group/memory.oom_control ;;
            *) continue ;;
        esac
        while read -r line; do
            case $line in oom_kill\ *) count=$((count + ${line#oom_kill })) ;; esac
        done 2> /dev/null < "$file" || :
    done 2> /dev/null < /proc/self/cgroup || :
    echo "$count"
}
lfadsrm_oom_seen=$(lfadsrm_oom_kills)

# lfadsrm_record_death RUN_DIR RUN_KEY OUTBOX PID START STATUS: call it when a task has ended with a status
# that Python did not choose. If that process (host, pid and start time) had claimed an attempt and left no exit
# record, write the record, then its name into the outbox. Nothing written here is ever read as success.
# Sets lfadsrm_death to the reason that was put on record.
lfadsrm_record_death() {
    local run_dir=$1 run_key=$2 outbox=$3 pid=$4 start=$5 status=$6
    local claim ours="" attempt k code signal=0 reason=failed state=FAILED beside host kills
    lfadsrm_death=""
    host=$(uname -n)
    for claim in "$run_dir"/attempts/*/claim.r*.json; do
        if grep -Eqs "^ *\"pid\": $pid,?\$" "$claim" && grep -Eqs "^ *\"start\": ${start:-null},?\$" "$claim" &&
            grep -Fqs "\"host\": \"$host\"" "$claim"; then
            ours=$claim
        fi
    done
    [ -n "$ours" ] || return 0
    k=${ours##*/claim.r}
    k=${k%.json}
    attempt=${ours%/*}
    [ ! -e "$attempt/exit.r$k.json" ] || return 0
    code=$status
    [ "$code" -ne 0 ] || code=1
    case $code in
        65) reason=bad_data ;;
        75) reason=checkpointed state=PREEMPTED ;;
    esac
    if [ "$code" -gt 128 ]; then
        reason=killed
        signal=$((code - 128))
    fi
    if [ "$code" -eq 137 ]; then
        kills=$(lfadsrm_oom_kills)
        if [ "$kills" -gt "$lfadsrm_oom_seen" ]; then reason=out_of_memory state=OUT_OF_MEMORY; fi
        lfadsrm_oom_seen=$kills
    fi
    beside="$attempt/.exit.r$k.json.$$.$RANDOM.tmp"
    # dd flushes this one file to disk; printf alone would leave that to luck.
    printf '{\n  "code": %d,\n  "signal": %d,\n  "reason": "%s",\n  "host": "%s",\n  "ended": %d,\n  "writer": "shell"\n}\n' \
        "$code" "$signal" "$reason" "${host//[^A-Za-z0-9._-]/}" "$(date +%s)" |
        dd of="$beside" conv=fsync 2> /dev/null || { rm -f "$beside"; return 1; }
    if ! ln "$beside" "$attempt/exit.r$k.json" 2> /dev/null && [ ! -e "$attempt/exit.r$k.json" ]; then
        # No hard links here: create the file only if nobody else did.
        (set -o noclobber && cat "$beside" > "$attempt/exit.r$k.json") 2> /dev/null || :
    fi
    rm -f "$beside"
    # shellcheck disable=SC2034 # for the script that includes this
    lfadsrm_death=$reason
    mkdir -p "$outbox" && : > "$outbox/$run_key.${attempt##*/}.r$k.$state.$code"
}

# What never took its run has no other way to say so, and schedulers forget: the attempt is closed.
# shellcheck disable=SC2317 # called by lf_end
lf_record_no_start() { # WHY
  local LC_ALL=C chunk task run attempt folder beside claims why=${1:0:300}
  why=${why//[^ -~]/?} why=${why//\\/\\\\} why=${why//\"/\\\"}
  while IFS=$'\t' read -r chunk task run attempt; do
    if [[ $chunk != "$lf_chunk" || $task != "$lf_task" ]]; then continue; fi
    printf -v folder '%s/%s/attempts/%03d' "$lf_collection" "$run" "$attempt"
    claims=("$folder"/claim.r*.json)
    if [[ -e ${claims[0]} || -e $folder/closed.json || ! -d $folder ]]; then continue; fi
    beside=$folder/.closed.json.$$.$RANDOM.tmp
    printf '{\n  "reason": "failed",\n  "closed": %d,\n  "host": "%s",\n  "submission": "%s",\n  "message": "%s"\n}\n' \
      "$(date +%s)" "$(uname -n)" "$lf_submission" "$why" | dd of="$beside" conv=fsync 2>/dev/null || continue
    if ! ln "$beside" "$folder/closed.json" 2>/dev/null && [[ ! -e $folder/closed.json ]]; then
      (set -o noclobber && cat "$beside" >"$folder/closed.json") 2>/dev/null # no hard links here
    fi
    rm -f -- "$beside"
  done <"$lf_folder/tasks.tsv" 2>/dev/null
}

# shellcheck disable=SC2317 # called by a trap
lf_end() { # record what Python could not, and leave nothing empty behind
  local code=$?
  trap '' TERM INT USR1 USR2
  if [[ $code == 3 ]]; then lf_record_no_start "${lf_why:-the queue could not begin: see $lf_log}"; fi
  if [[ -n $lf_output && -e $lf_output && ! -s $lf_output ]]; then rm -f -- "$lf_output"; fi
  exit "$code"
}
trap lf_end EXIT

[[ -n $lf_job ]] || lf_fail "this script is for the scheduler: qsub script-0.sh"
lf_queue=$lf_folder/queues/$lf_chunk-$lf_task.sh # does the runs of this task, several at once
lf_log=$lf_folder/output/$lf_chunk-$lf_task.log

lf_find() { [[ -r $lf_queue ]]; }
# What was written just before the submission may not be visible on this machine yet.
lf_tries=0
until lf_find 2>/dev/null; do
  if ((lf_tries >= 60)); then
    lf_fail "the queue script of task $lf_task of chunk $lf_chunk is not there: see $lf_folder/tasks.tsv"
  fi
  lf_tries=$((lf_tries + 1))
  sleep 1
done
cd -- "$lf_collection" || exit 3
# PBS begins with umask 077: but whoever may read the collection may read what its runs write.
umask "$(printf %03o $((0077 & ~0$(stat -c %a -- "$lf_collection"))))"
exec >>"$lf_log" 2>&1 || exit 3
lf_say "job $lf_job, task $lf_task on $(uname -n): submission $lf_submission, several runs"

# ---- environment -----------------------------------------------------------------------------------------

# What the submitting shell has set must not change the runs by accident.
for lf_name in "${!LFADSRM_@}"; do
  case $lf_name in
    *) unset "$lf_name" ;;
  esac
done
set +eu # should the lines above have set it

export PYTHONUTF8=1 # names of files are UTF-8, whatever the locale of this machine
export HDF5_USE_FILE_LOCKING=FALSE # the parallel file systems of clusters often have no locks
export CUDA_DEVICE_ORDER=PCI_BUS_ID
lf_threads=${NCPUS:-64}
export LFADSRM_CORES=$lf_threads # for all runs of this task together
export LFADSRM_CLUSTER=$lf_cluster LFADSRM_JOB=$lf_job LFADSRM_DEADLINE=$lf_deadline

# ---- the task --------------------------------------------------------------------------------------------

lf_command=("$BASH" "$lf_queue" --foreground)
command -v "${lf_command[0]}" >/dev/null || lf_fail "there is no program ${lf_command[0]} here"
(
  trap '' HUP INT # see lf_tell; INT tells that all are ignored
  exec "${lf_command[@]}" </dev/null
) &
lf_child=$!
lfadsrm_read_start "$lf_child"
lf_began=$lfadsrm_start # still known when it has died
for ((lf_k = 0; lf_k < 500; lf_k++)); do # nothing is passed on before it ignores signals
  if [[ -z $lfadsrm_start ]] || lf_ignores_int "$lf_child"; then break; fi
  sleep 0.01
  lfadsrm_read_start "$lf_child"
done
lf_child_start=$lf_began
if [[ -n $lf_asked && -z $lf_told ]]; then lf_tell "$lf_asked"; fi # it came before the start

while :; do
  lf_before=$lf_signals
  wait "$lf_child"
  lf_status=$?
  lf_alive || break # else a signal has ended the wait, and not the task
done
if ((lf_signals > lf_before)); then # the task may have ended at the moment of a signal: ask again
  wait "$lf_child" 2>/dev/null
  lf_again=$?
  if ((lf_again != 127)); then lf_status=$lf_again; fi
fi
lf_code=$lf_status

case $lf_code in
  64) lf_say "another task owns the run, or it is complete: nothing is left to do here" && exit 0 ;;
  130 | 140 | 143) exit 75 ;; # the queue was stopped, and its runs have checkpointed, or it had not begun
  *) exit "$lf_code" ;;
esac
