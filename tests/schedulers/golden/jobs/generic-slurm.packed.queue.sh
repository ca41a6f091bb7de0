#!/usr/bin/env bash
# shellcheck disable=SC1090,SC1091,SC2016 # files of the environment; names that hold a $
# shellcheck disable=SC2317 # some functions take the place of others
# The local queue of task 0 of a job of example: 2 runs in one allocation.
# The script of the job starts it and tells it when to stop; started again, it goes on.
# Exit status: 0 all done, 3 cannot start, 5 some runs failed, 130 stopped before the end.
# Needs bash 4.2 or later and Linux. Written by lfadsrm_hpc: write it again rather than edit it.
[ -n "$BASH_VERSION" ] || { echo "error: start this script with bash" >&2; exit 3; }
if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 402)); then
  echo "error: this script needs bash 4.2 or later, and this is $BASH_VERSION" >&2
  exit 3
fi

early='' # a signal that came before this script is ready for it
trap 'early=TERM' TERM
trap 'early=USR2' USR1 USR2

# ---- what to do -----------------------------------------------------------------------------------------

collection='/data/my lab/runs/example'
submission=01J9ZK3V5Q8N7M2C4B6A1D0E9F
run_ids=(
  param_k3jz6v2a4q7m/single_day0
  param_k3jz6v2a4q7m/single_day1
)
titles=( # the same for people
  'param_k3jz6v2a4q7m/single_day0 ((factors_dim=2))'
  'param_k3jz6v2a4q7m/single_day1 ((factors_dim=3))'
)
run_keys=( # the same for file names
  f0e31ccdc20ddb8f
  412cf6d637cd52a1
)
attempts=(1 2) # of each, reserved when they were planned
batch_task=0 # of all of them
memory_mb=(3000 3000) # GPU memory of each, in MiB
task_command=(/opt/lfads/bin/python -m lfadsrm_hpc task)
task_options=()
done_state='done' # name of the mark of a finished run

# ---- how (0: chosen here, or no limit) -------------------------------------------------------------------

slots=2 # runs at once
threads=0 # threads a run
use_gpu=yes
max_per_gpu=4
max_attempts=1 # so often a run may fail by itself
max_restarts=1 # so often a run is started again after it was killed or stopped
poll=0.5 # seconds between two looks at the runs of this queue
look=2 # seconds between two looks at GPUs and other queues, while runs wait for room
recheck=60 # seconds until a run that another task owns is tried again
detach=no
tensorboard_port=0 # 0: no TensorBoard

# ---- this machine ----------------------------------------------------------------------------------------

say() { printf '%(%H:%M:%S)T %s\n' -1 "$*" >&2; }

fail() {
  say "error: $*"
  exit 3
}

case ${1-} in
  '') ;;
  --detach) detach=yes ;;
  --foreground) detach=no ;; # also if this script was written to detach itself
  *)
    echo "usage: bash run_queue.sh [--detach | --foreground]" >&2
    exit 2
    ;;
esac

script='/data/my lab/runs/example/.lfadsrm/submissions/01J9ZK3V5Q8N7M2C4B6A1D0E9F/queues/0-0.sh'
host=$(uname -n)
state_dir=${script%.sh}/$host # of this task alone, a folder a host: process ids mean nothing elsewhere
outbox='/data/my lab/runs/example/.lfadsrm/outbox'
tensorboard='/data/my lab/runs/example/launch_tensorboard.sh'
[[ -d $collection ]] || fail "there is no run collection $collection"
if ! mkdir -p -- "$state_dir" || [[ ! -w $state_dir ]]; then fail "cannot write to $state_dir"; fi
[[ -r /proc/$$/stat ]] || fail "/proc is not there: without it no process can be told from another"
# Process ids hold for one boot, and in one container.
boot=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)/$(readlink /proc/self/ns/pid 2>/dev/null)

if [[ $detach == yes ]]; then
  log=$state_dir/queue.$submission.log
  new_session=()
  if command -v setsid >/dev/null; then new_session=(setsid); fi
  # Before the process exists: this one may be the terminal's first, whose end hangs up on all others at once.
  trap '' HUP
  (
    exec "${new_session[@]}" "$BASH" "${BASH_SOURCE[0]}" --foreground </dev/null >>"$log" 2>&1
  ) &
  say "the queue goes on in the background as process $!, also when this terminal ends"
  say "watch it: tail -f $(printf %q "$log")"
  say "stop it (its runs checkpoint first): kill $!"
  echo "$!"
  exit 0
fi

# What the caller has set must not change the runs by accident.
for name in "${!LFADSRM_@}"; do
  case $name in
    LFADSRM_CLUSTER | LFADSRM_JOB | LFADSRM_DEADLINE | LFADSRM_CORES) ;;
    *) unset "$name" ;;
  esac
done
command -v "${task_command[0]}" >/dev/null || fail "there is no program ${task_command[0]}: write this script again"

is_number() { [[ $1 =~ ^[0-9]{1,15}$ ]]; }

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


# ---- state -----------------------------------------------------------------------------------------------
# By number of run:
waiting=()      # runs to start, in this order
state=()        # waiting, running, done, failed or stopped
not_before=()   # in seconds of this script
failures=()     # times it ended by itself with an error
restarts=()     # times it was killed, or stopped at a checkpoint
refused=()      # times its task said that it is another's, though no other could be seen
note=()         # what was last said about why it waits
logs=()         # of the failed ones
began=()        # of the running ones, as all below
pid=()          # its task's process
start=()        # that process's start time, see lfadsrm_read_start
line=()         # what stands in <run key>.running
declare -A own=() # run key -> number, of the running ones

running=0
total=${#run_ids[@]}
stopping='' # the signal that told this queue to stop
signals=0   # how many came
last_look=-1000000
gpus_silent=no # nvidia-smi gave no answer
tensorboard_pid=''

# alive PID START BOOT: is exactly this process living?
alive() {
  [[ $3 == "$boot" && -n $2 ]] && is_number "$1" || return 1
  lfadsrm_read_start "$1"
  [[ $lfadsrm_start == "$2" ]]
}

# mark I STATE TEXT: leave <run key>.<state>, which is whole as soon as it is there.
mark() {
  local base=$state_dir/${run_keys[$1]}
  rm -f -- "$base.failed" "$base.stopped"
  printf '%s\n' "$3" >"$base.$$.new" && mv -f -- "$base.$$.new" "$base.$2"
}

# finished I: did it end well under a queue of this host, and is its exit record still there?
finished() {
  [[ -e $state_dir/${run_keys[$1]}.$done_state ]] || return 1
  grep -Eqs '^ *"code": 0,?$' "$collection/${run_ids[$1]}"/attempts/*/exit.r*.json
}

# take_running I LINE: publish <run key>.running, unless another queue was faster. Run by the task's process itself.
take_running() {
  local file=$state_dir/${run_keys[$1]}.running beside=$state_dir/${run_keys[$1]}.$BASHPID.new
  printf '%s\n' "$2" >"$beside" || return 1
  if ! ln -- "$beside" "$file" 2>/dev/null && [[ ! -e $file ]]; then
    mv -n -- "$beside" "$file" # a file system without hard links
  fi
  rm -f -- "$beside"
  [[ $(cat -- "$file" 2>/dev/null) == "$2" ]]
}

# drop_running FILE LINE: take <run key>.running away if it still says LINE.
drop_running() {
  local aside=$1.$$.old
  [[ $(cat -- "$1" 2>/dev/null) == "$2" ]] || return 0
  mv -- "$1" "$aside" 2>/dev/null || return 0 # another queue was faster
  if [[ $(cat -- "$aside") != "$2" ]]; then
    ln -- "$aside" "$1" 2>/dev/null # somebody took the run meanwhile: give it back
  fi
  rm -f -- "$aside"
}


# ---- GPUs ------------------------------------------------------------------------------------------------
# By number of usable GPU; memory in MiB.
gpus=()       # UUIDs; none: the runs share the cores
gpu_total=()  # 0: not known
gpu_base=()   # least memory that was seen in use
gpu_runs=()   # runs on it, of this and other queues
gpu_room=()   # what a new run can have
# Of the runs that hold a GPU now:
held_pid=()
held_gpu=()
held_mb=()
smi=yes # nvidia-smi can be asked
ask=()
if command -v timeout >/dev/null; then ask=(timeout 60); fi
export CUDA_DEVICE_ORDER=PCI_BUS_ID # so that CUDA numbers the GPUs as nvidia-smi does

no_gpu() { # WHY: use the cores, or give up where GPUs were asked for
  [[ $use_gpu != yes ]] || fail "no GPU can be used: $1"
  say "no GPU is used: $1"
  gpus=()
}

choose_gpus() {
  local rows index uuid free memory rest wanted entry i found newline=$'\n' all_index=() all_uuid=() all_total=()
  [[ $use_gpu != no ]] || return 0
  wanted=${CUDA_VISIBLE_DEVICES-all}
  case $wanted in '' | -1 | NoDevFiles | none | void) no_gpu "CUDA_VISIBLE_DEVICES hides them" && return ;; esac
  command -v nvidia-smi >/dev/null || { no_gpu "there is no nvidia-smi" && return; }
  rows=$("${ask[@]}" nvidia-smi --query-gpu=index,uuid,memory.free,memory.total,utilization.gpu \
    --format=csv,noheader,nounits 2>&1) || { no_gpu "nvidia-smi says: $rows" && return; }
  while IFS=', ' read -r index uuid free memory rest; do
    if ! is_number "$index"; then continue; fi
    if ! is_number "$memory" || ! is_number "$free"; then memory=0; fi
    all_index+=("$index") all_uuid+=("$uuid") all_total+=("$memory")
  done <<<"$rows"
  ((${#all_uuid[@]} > 0)) || { no_gpu "nvidia-smi shows none" && return; }
  if [[ $wanted == all ]]; then
    gpus=("${all_uuid[@]}") gpu_total=("${all_total[@]}")
    return
  fi
  while IFS= read -r entry; do # CUDA_VISIBLE_DEVICES: numbers, or the beginnings of UUIDs
    [[ -n $entry && $entry != -1 ]] || break # CUDA stops there as well
    found=''
    for i in "${!all_uuid[@]}"; do
      if [[ $entry == "${all_index[i]}" || ($entry == GPU-* && ${all_uuid[i]} == "$entry"*) ]]; then
        found=$i
        break
      fi
    done
    if [[ -n $found ]]; then
      if [[ " ${gpus[*]} " != *" ${all_uuid[found]} "* ]]; then
        gpus+=("${all_uuid[found]}") gpu_total+=("${all_total[found]}")
      fi
    elif [[ $entry == MIG-* ]]; then
      gpus+=("$entry") gpu_total+=(0) # a part of a GPU, whose memory nvidia-smi does not tell this way
    else
      fail "CUDA_VISIBLE_DEVICES names $entry, which nvidia-smi does not show"
    fi
  done <<<"${wanted//,/$newline}"
  ((${#gpus[@]} > 0)) || no_gpu "CUDA_VISIBLE_DEVICES=$wanted leaves none"
}

# Every run must fit somewhere, before anything is started.
check_sizes() {
  local i g largest=0 sizes='' too_large=0
  ((${#gpus[@]} > 0)) || return 0
  for g in "${!gpus[@]}"; do
    ((gpu_total[g] > 0)) || return 0
    sizes+="${sizes:+, }${gpus[g]} has ${gpu_total[g]} MB"
    if ((gpu_total[g] > largest)); then largest=${gpu_total[g]}; fi
  done
  for i in "${waiting[@]}"; do
    if ((memory_mb[i] > largest)); then
      say "error: run ${titles[i]} needs ${memory_mb[i]} MB of GPU memory, more than any GPU has ($sizes)"
      too_large=$((too_large + 1))
    fi
  done
  ((too_large == 0)) || fail "nothing was started; lower gpu_memory_mb, or set use_gpu to false to use the cores"
}

# Read nvidia-smi, and keep for each run what it asked for and has not taken yet: memory is taken some time after
# the start, and what a run has taken is missing from the free memory already.
read_gpus() {
  local rows apps index uuid free memory rest p used g h seen=no taken free_now=() missing=() asked=() usage=()
  if [[ $smi == no ]]; then
    for g in "${!gpus[@]}"; do gpu_room[g]=999999999; done
    return
  fi
  # In this order: memory that is taken between the two questions then counts twice for once, and never not at all.
  apps=$("${ask[@]}" nvidia-smi --query-compute-apps=pid,gpu_uuid,used_memory \
    --format=csv,noheader,nounits 2>/dev/null) || apps=''
  rows=$("${ask[@]}" nvidia-smi --query-gpu=index,uuid,memory.free,memory.total,utilization.gpu \
    --format=csv,noheader,nounits 2>/dev/null) || return 1
  while IFS=', ' read -r p uuid used; do
    if is_number "$p" && is_number "$used"; then usage[p]=$((${usage[p]:-0} + used)); fi
  done <<<"$apps"
  while IFS=', ' read -r index uuid free memory rest; do
    for g in "${!gpus[@]}"; do
      if [[ $uuid == "${gpus[g]}" ]] && is_number "$free"; then free_now[g]=$free; fi
    done
  done <<<"$rows"
  for h in "${!held_pid[@]}"; do
    g=${held_gpu[h]} used=${usage[${held_pid[h]}]:-0}
    if [[ -n ${usage[${held_pid[h]}]} ]]; then seen=yes; fi
    asked[g]=$((${asked[g]:-0} + held_mb[h]))
    if ((used < held_mb[h])); then missing[g]=$((${missing[g]:-0} + held_mb[h] - used)); fi
  done
  for g in "${!gpus[@]}"; do
    gpu_room[g]=0
    if ((gpu_total[g] == 0)); then
      gpu_room[g]=999999999 # memory not known: only the number of runs counts, and without a limit it is 1
    elif [[ -n ${free_now[g]} ]]; then
      used=$((gpu_total[g] - free_now[g]))
      if [[ -z ${gpu_base[g]} ]] || ((used < gpu_base[g])); then gpu_base[g]=$used; fi
      if [[ $seen == no ]]; then
        # Processes cannot be told apart here (as in a container): what has come on top of the least that was
        # ever in use is taken for the runs' own.
        taken=$((used - gpu_base[g])) asked[g]=${asked[g]:-0}
        if ((taken > asked[g])); then taken=${asked[g]}; fi
        missing[g]=$((asked[g] - taken))
      fi
      gpu_room[g]=$((free_now[g] - ${missing[g]:-0}))
    fi
  done
}

# best_gpu MEMORY: set `chosen` to the GPU with the fewest runs among those with room, then the one with most room.
best_gpu() {
  local g limit
  chosen=''
  for g in "${!gpus[@]}"; do
    limit=$max_per_gpu
    if ((limit == 0 && gpu_total[g] == 0)); then limit=1; fi
    if ((gpu_room[g] < $1 || (limit > 0 && gpu_runs[g] >= limit))); then continue; fi
    if [[ -z $chosen ]] || ((gpu_runs[g] < gpu_runs[chosen])) ||
      ((gpu_runs[g] == gpu_runs[chosen] && gpu_room[g] > gpu_room[chosen])); then chosen=$g; fi
  done
  [[ -n $chosen ]]
}

hold_gpu() { # PID UUID MEMORY: count a run on its GPU
  local g
  for g in "${!gpus[@]}"; do
    if [[ ${gpus[g]} == "$2" ]]; then
      held_pid+=("$1") held_gpu+=("$g") held_mb+=("$3")
      gpu_runs[g]=$((gpu_runs[g] + 1))
    fi
  done
}


# ---- runs ------------------------------------------------------------------------------------------------

# Count what runs now: this queue's own, those of other queues of the collection, and what dead queues left behind.
others=0
declare -A other_pid=() # run key -> process
look_around() {
  local g i file key text p s b gpu mb rest
  held_pid=() held_gpu=() held_mb=() others=0 other_pid=()
  for g in "${!gpus[@]}"; do gpu_runs[g]=0; done
  for file in "$state_dir"/*.running; do
    key=${file##*/} key=${key%.running}
    text=$(cat -- "$file" 2>/dev/null) || continue # ended just now, or there are none
    i=${own[$key]-}
    if [[ -n $i && $text == "${line[i]}" ]]; then continue; fi
    IFS=' ' read -r p s b gpu mb rest <<<"$text"
    if alive "$p" "$s" "$b"; then
      others=$((others + 1)) other_pid[$key]=$p
      if is_number "$mb"; then hold_gpu "$p" "$gpu" "$mb"; fi
    else
      drop_running "$file" "$text"
    fi
  done
  for i in "${own[@]}"; do
    IFS=' ' read -r p s b gpu mb rest <<<"${line[i]}"
    hold_gpu "$p" "$gpu" "$mb"
  done
}

tell_once() { # I REASON TEXT: say why a run waits, once for each reason
  [[ ${note[$1]} == "$2" ]] || say "waiting: run $(($1 + 1))/$total ${titles[$1]} $3"
  note[$1]=$2
}

ignored=(HUP INT) # a terminal sends these to all; the queue alone decides
arguments_of() { arguments=(--task $(($1 + 1))); } # I: what names the task of a run
log_of() { printf '%s\n' "$state_dir/${run_keys[$1]}.log"; } # I: what it prints before it has a log of its own

# launch I GPU: start the task of a run in the background; GPU is a UUID, or - for none.
launch() {
  local i=$1 gpu=$2 where log arguments
  log=$(log_of "$i")
  arguments_of "$i"
  (
    trap '' "${ignored[@]}"
    me=$BASHPID
    lfadsrm_read_start "$me"
    take_running "$i" "$me $lfadsrm_start $boot $gpu ${memory_mb[i]} ${run_ids[i]}" || exit 64
    settings=(OMP_NUM_THREADS="$threads" TF_NUM_INTRAOP_THREADS="$threads" TF_NUM_INTEROP_THREADS="$threads"
      LFADSRM_THREADS="$threads")
    if [[ $gpu == - ]]; then
      settings+=(CUDA_VISIBLE_DEVICES=)
    else
      settings+=(CUDA_VISIBLE_DEVICES="$gpu" TF_FORCE_GPU_ALLOW_GROWTH=true LFADSRM_GPU_MEMORY_MB="${memory_mb[i]}")
    fi
    exec env "${settings[@]}" "${task_command[@]}" --collection "$collection" --run "${run_ids[i]}" \
      --submission "$submission" "${arguments[@]}" "${task_options[@]}" </dev/null >>"$log" 2>&1
  ) &
  pid[i]=$!
  lfadsrm_read_start "${pid[i]}"
  start[i]=$lfadsrm_start
  line[i]="${pid[i]} ${start[i]} $boot $gpu ${memory_mb[i]} ${run_ids[i]}"
  own[${run_keys[i]}]=$i
  state[i]=running began[i]=$SECONDS
  running=$((running + 1))
  where="the CPU, threads: $threads"
  if [[ $gpu != - ]]; then where=$gpu; fi
  # The mere look whether another task still owns it is no event.
  [[ ${note[i]} == owned ]] || say "started run $((i + 1))/$total ${titles[i]} on $where"
}

# has_room I: is there a slot, and a GPU where there are any? Sets `chosen` to its number.
has_room() {
  chosen=''
  ((running + others < slots)) || return 1
  if ((${#gpus[@]} > 0)); then best_gpu "${memory_mb[$1]}"; fi
}

# Start what has room, in order; a run that does not fit lets smaller ones behind it pass.
start_runs() {
  local i g largest=0 left=() chosen
  last_look=$SECONDS
  look_around
  if ((${#gpus[@]} > 0)) && ! read_gpus; then
    [[ $gpus_silent == yes || -n $stopping ]] || say "nvidia-smi gives no answer; nothing new is started until it does"
    gpus_silent=yes
    return
  fi
  gpus_silent=no
  for i in "${waiting[@]}"; do
    if finished "$i"; then
      state[i]='done'
      say "done run $((i + 1))/$total ${titles[i]}: another queue finished it"
    elif [[ -n $stopping ]] || ((SECONDS < not_before[i])); then
      left+=("$i")
    elif [[ -n ${other_pid[${run_keys[i]}]-} ]]; then
      left+=("$i")
      tell_once "$i" "${other_pid[${run_keys[i]}]}" "runs already, as process ${other_pid[${run_keys[i]}]} of another queue"
    elif has_room "$i"; then
      launch "$i" "${gpus[chosen]:--}"
      if [[ -n $chosen ]]; then
        gpu_runs[chosen]=$((gpu_runs[chosen] + 1)) gpu_room[chosen]=$((gpu_room[chosen] - memory_mb[i]))
      fi
    else
      left+=("$i")
    fi
  done
  waiting=("${left[@]}")
  if ((running + others == 0 && ${#gpus[@]} > 0 && ${#waiting[@]} > 0)); then
    i=${waiting[0]}
    for g in "${!gpus[@]}"; do
      if ((gpu_room[g] > largest)); then largest=${gpu_room[g]}; fi
    done
    ((SECONDS < not_before[i])) ||
      tell_once "$i" memory "needs ${memory_mb[i]} MB of GPU memory; at most $largest MB are free on a GPU"
  fi
}

# ended I CODE: decide what follows from the exit status of a task.
ended() {
  local i=$1 code=$2 name="run $(($1 + 1))/$total ${titles[$1]}" took=$((SECONDS - began[$1])) often=''
  running=$((running - 1))
  unset "own[${run_keys[i]}]"
  case $code in
    0)
      state[i]='done'
      mark "$i" "$done_state" "$submission"
      say "done $name after $took s"
      ;;
    64) owned_by_another "$i" ;;
    65)
      say "$name has data that cannot be used; it is not tried again"
      give_up "$i" "$code"
      ;;
    75)
      say "$name stopped at a checkpoint after $took s"
      start_again "$i" "$code"
      ;;
    *)
      lfadsrm_record_death "$collection/${run_ids[i]}" "${run_keys[i]}" "$outbox" "${pid[i]}" "${start[i]}" "$code"
      if ((code > 128)); then
        if ((code == 137)); then often=' (often: there was no memory left)'; fi
        say "$name was killed by signal $(kill -l "$code") after $took s$often"
        start_again "$i" "$code"
      else
        say "$name ended with status $code after $took s"
        failures[i]=$((failures[i] + 1))
        if ((failures[i] >= max_attempts)); then give_up "$i" "$code"; else put_back "$i" "$code"; fi
      fi
      ;;
  esac
  drop_running "$state_dir/${run_keys[i]}.running" "${line[i]}"
}

owned_by_another() { # I: its task says that the run is another's, or not to be done
  local i=$1 now
  now=$(cat -- "$state_dir/${run_keys[i]}.running" 2>/dev/null)
  if [[ -n $stopping || (-n $now && $now != "${line[i]}") ]]; then
    put_back "$i" 64 # another queue of this host was faster: it is known which process to wait for
    return
  fi
  refused[i]=$((refused[i] + 1))
  if owner_may_live "$i"; then refused[i]=0; fi
  if ((refused[i] >= 3)); then
    say "run $((i + 1))/$total ${titles[i]} is refused, and no living task has it"
    give_up "$i" 64
    return
  fi
  put_back "$i" 64
  not_before[i]=$((SECONDS + recheck))
  tell_once "$i" owned "belongs to another task; it is tried again every $recheck s"
}

# owner_may_live I: does the newest claim belong to a process that lives, as far as can be seen from here?
owner_may_live() {
  local claim='' file
  for file in "$collection/${run_ids[$1]}"/attempts/*/claim.r*.json; do claim=$file; done
  file=${claim##*/claim.}
  if [[ ! -e $claim || -e ${claim%/*}/exit.$file ]]; then return 1; fi
  [[ $(in_claim host) != "\"$host\"" ]] || alive "$(in_claim pid)" "$(in_claim start)" "$boot"
}

in_claim() { sed -n "s/^ *\"$1\": \(.*[^,]\),\{0,1\}\$/\1/p" "$claim"; } # KEY: its value in the file $claim

start_again() { # I CODE: it was stopped or killed, which is not its own failure
  restarts[$1]=$((restarts[$1] + 1))
  if [[ -z $stopping ]] && ((restarts[$1] > max_restarts)); then give_up "$1" "$2"; else put_back "$1" "$2"; fi
}

# put_back I CODE: it goes on behind those that wait already, or, where the queue stops, another time.
put_back() {
  if [[ -n $stopping ]]; then
    state[$1]=stopped
    mark "$1" stopped "$2"
  else
    state[$1]=waiting not_before[$1]=0
    waiting+=("$1")
  fi
}

give_up() { # I CODE
  local log attempt_log
  log=$(log_of "$1")
  # The task writes to the log of its attempt once it has one.
  for attempt_log in "$collection/${run_ids[$1]}"/attempts/*/log.txt; do :; done
  if [[ -s $attempt_log && ! $log -nt $attempt_log ]]; then log=$attempt_log; fi
  logs[$1]=$log
  state[$1]=failed
  mark "$1" failed "$2"
  say "failed run $(($1 + 1))/$total ${titles[$1]}; the last lines of $log:"
  tail -n 5 -- "$log" 2>/dev/null | sed 's/^/    /' >&2
}

# Look for tasks that have ended, and take their exit status.
reap() {
  local i code again before
  for i in "${own[@]}"; do
    if alive "${pid[i]}" "${start[i]}" "$boot"; then continue; fi
    before=$signals
    wait "${pid[i]}"
    code=$?
    if ((signals > before)); then # the wait may have ended by a signal to this script: ask again
      wait "${pid[i]}" 2>/dev/null
      again=$?
      if ((again != 127)); then code=$again; fi
    fi
    ended "$i" "$code"
    last_look=-1000000 # there is room: do not wait for the next look
  done
}


# ---- stopping --------------------------------------------------------------------------------------------

# shellcheck disable=SC2317 # called by the traps
on_signal() {
  signals=$((signals + 1))
  if [[ -z $stopping ]]; then
    stopping=$1
    say "stopping (signal $1): $running running, each checkpoints and ends"
  else
    say "still waiting for $running to checkpoint and end; nothing is lost by waiting"
  fi
}

# These two have their meaning in a job.
leave_failed() { :; }
look_at_clock() { :; }

told=() # by number of run: the process that was told to end
tell_to_end() {
  local i
  for i in "${own[@]}"; do
    if [[ ${told[i]-} != "${pid[i]}" ]]; then
      kill -TERM "${pid[i]}" 2>/dev/null
      told[i]=${pid[i]}
    fi
  done
}

start_tensorboard() {
  ((tensorboard_port > 0)) || return 0
  (
    trap '' HUP INT
    exec env CUDA_VISIBLE_DEVICES= "$BASH" "$tensorboard" --port "$tensorboard_port" </dev/null >>"$state_dir/tensorboard.log" 2>&1
  ) &
  tensorboard_pid=$!
  say "TensorBoard: http://localhost:$tensorboard_port/ (its log: $state_dir/tensorboard.log)"
}

stop_tensorboard() {
  [[ -n $tensorboard_pid ]] || return 0
  kill -TERM "$tensorboard_pid" 2>/dev/null
  wait "$tensorboard_pid" 2>/dev/null
  tensorboard_pid=''
}

summary() {
  local i n_done=0 n_failed=0
  for i in "${!run_ids[@]}"; do
    case ${state[i]} in
      done) n_done=$((n_done + 1)) ;;
      failed) n_failed=$((n_failed + 1)) ;;
    esac
  done
  say "the queue has ended: $n_done of $total done, $n_failed failed, $((total - n_done - n_failed)) not finished"
  for i in "${!run_ids[@]}"; do
    if [[ ${state[i]} == failed ]]; then say "  failed: ${titles[i]} (log: ${logs[i]})"; fi
  done
  if ((n_done < total)); then say "to go on: bash $(printf %q "$script")"; fi
  if ((n_done == total)); then exit 0; fi
  if [[ -n $stopping ]]; then exit 130; fi
  exit 5
}


# ---- one task of a job -----------------------------------------------------------------------------------

ignored=(HUP INT TERM USR1 USR2) # until the task catches them; it is told again and again
arguments_of() { arguments=(--task "$batch_task" --attempt "${attempts[$1]}"); }
attempt_of() { printf '%s/%s/attempts/%03d' "$collection" "${run_ids[$1]}" "${attempts[$1]}"; }
log_of() { printf '%s/log.txt\n' "$(attempt_of "$1")"; }

# ended_with I: the exit code on record of the attempt's newest start; nothing while there is none.
ended_with() {
  local k=0 folder
  folder=$(attempt_of "$1")
  while [[ -e $folder/claim.r$((k + 1)).json ]]; do k=$((k + 1)); done
  sed -n 's/^ *"code": \([0-9]*\),\{0,1\}$/\1/p' "$folder/exit.r$k.json" 2>/dev/null
}

finished() { [[ $(ended_with "$1") == 0 ]]; }

# What failed before the scheduler started this task again is for `lfadsrm retry`, as a new attempt.
leave_failed() {
  local i left=()
  for i in "${waiting[@]}"; do
    case $(ended_with "$i") in
      1 | 65) state[i]=failed logs[i]=$(log_of "$i") ;;
      *) left+=("$i") ;;
    esac
  done
  waiting=("${left[@]}")
}

owned_by_another() { # I: it was given up, or completed by another attempt: nothing is to be done about it here
  state[$1]='done'
  say "run $(($1 + 1))/$total ${titles[$1]} is left to another task"
}

start_again() { # I CODE: it was stopped or killed, which is not its own failure
  look_at_clock
  restarts[$1]=$((restarts[$1] + 1))
  if [[ -n $stopping ]]; then
    put_back "$1" "$2"
  elif [[ $2 == 137 && $lfadsrm_death == out_of_memory ]] || ((restarts[$1] > max_restarts)); then
    give_up "$1" "$2"
  else
    put_back "$1" "$2"
  fi
}

look_at_clock() { # at the deadline runs stop by themselves, and no other is started
  if [[ -n $early ]]; then
    on_signal "$early"
    early=''
  fi
  if [[ -n $stopping || -z $LFADSRM_DEADLINE ]] || (($(date +%s) < ${LFADSRM_DEADLINE%.*})); then return; fi
  stopping=USR2 last_told=$SECONDS # only who goes on for some seconds is told
  say "the time is over: $running running, each checkpoints and ends"
}

on_signal() { # SIGNAL: it comes again and again
  signals=$((signals + 1))
  [[ -n $stopping ]] || say "stopping (signal $1): $running running, each checkpoints and ends"
  stopping=${stopping:-$1}
}

last_told=-1000000
tell_to_end() {
  local i signal=TERM
  ((SECONDS - last_told >= 3)) || return 0
  last_told=$SECONDS
  if [[ $stopping == USR2 ]]; then signal=USR2; fi
  for i in "${own[@]}"; do kill -s "$signal" "${pid[i]}" 2>/dev/null; done
}

no_gpu() { # WHY: the scheduler may have named GPUs that nvidia-smi does not tell of
  local g
  case ${CUDA_VISIBLE_DEVICES-} in
    '' | -1 | NoDevFiles | none | void)
      [[ $use_gpu != yes ]] || fail "no GPU can be used: $1"
      gpus=()
      ;;
    *)
      IFS=, read -r -a gpus <<<"$CUDA_VISIBLE_DEVICES"
      for g in "${!gpus[@]}"; do gpu_total[g]=0; done
      smi=no
      say "$1: one run at a time on each GPU that the scheduler names"
      ;;
  esac
}

# ---- the queue -------------------------------------------------------------------------------------------

for file in "$state_dir"/*.new "$state_dir"/*.old; do # what killed queues left half done
  name=${file%.*}
  [[ -e /proc/${name##*.} ]] || rm -f -- "$file"
done
for i in "${!run_ids[@]}"; do
  not_before[i]=0 failures[i]=0 restarts[i]=0 refused[i]=0 state[i]=waiting note[i]=''
  if finished "$i"; then state[i]='done'; else waiting+=("$i"); fi
done
leave_failed
choose_gpus
check_sizes

# Share the cores among the runs that can be done at once. (nproc heeds OMP_NUM_THREADS, which is not meant here.)
cores=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc 2>/dev/null) || cores=1
cores=${LFADSRM_CORES:-$cores} # a job says how many it has been given
if ((slots == 0)); then
  slots=$((threads > 0 ? cores / threads : cores))
  if ((slots == 0)); then slots=1; fi
fi
if ((threads == 0)); then
  at_once=$((slots < total ? slots : total))
  if ((${#gpus[@]} > 0 && max_per_gpu > 0 && ${#gpus[@]} * max_per_gpu < at_once)); then
    at_once=$((${#gpus[@]} * max_per_gpu))
  fi
  threads=$((cores / at_once > 4 ? 4 : cores / at_once))
  if ((threads == 0)); then threads=1; fi
fi

trap 'on_signal INT' INT
trap 'on_signal TERM' TERM
trap 'on_signal HUP' HUP
trap 'on_signal USR2' USR1 USR2 # a job is warned that its time is over
trap '' PIPE # whoever reads these lines may go away
trap stop_tensorboard EXIT

place="up to $slots at once on $cores cores"
if ((${#gpus[@]} > 0)); then place="on ${#gpus[@]} GPU$( ((${#gpus[@]} == 1)) || echo s), $place"; fi
say "$total runs, $((total - ${#waiting[@]})) of them finished already; $place"
if ((${#waiting[@]} > 0)); then start_tensorboard; fi

while :; do
  reap
  look_at_clock
  if [[ -n $stopping ]]; then
    tell_to_end
    if ((running == 0)); then break; fi
  else
    if ((running + ${#waiting[@]} == 0)); then break; fi
    if ((${#waiting[@]} > 0 && running < slots && SECONDS - last_look >= look)); then
      start_runs
    fi
  fi
  sleep "$poll"
done
stop_tensorboard
summary
