#!/usr/bin/env bash
# Stands in for sbatch, squeue, scontrol and scancel, by the name it is called by. What it knows is in $FAKE:
#   largest      MaxArraySize
#   mode         of sbatch: run, queue, refuse TEXT, lose (says that it timed out, takes nothing), keep (the same, but takes it), big N
#                (refuses arrays of more than N tasks), limit N (refuses what would be more than N that wait or run)
#   away         when it is there, nothing answers
#   blind        when it is there, squeue shows nothing, once
#   calls        every call, a line each
#   tasks/ARRAY_INDEX   a line as squeue prints it: array|index|state|reason|node|comment
set -u
name=$(basename "$0")
echo "$name $*" >> "$FAKE/calls"
if [ -e "$FAKE/away" ]; then
    echo "$name: error: Unable to contact slurm controller (connect failure)" >&2
    exit 1
fi
case $name in
scontrol)
    [ "$1" != -o ] || echo "JobId=1 JobState=FAILED ExitCode=$(cat "$FAKE/code_$4" 2> /dev/null || echo 0):0 Requeue=1"
    [ "$1" != show ] || echo "MaxArraySize            = $(cat "$FAKE/largest" 2> /dev/null || echo 1001)"
    ;;
squeue)
    if [ -e "$FAKE/blind" ]; then
        rm "$FAKE/blind"
        exit 0
    fi
    cat "$FAKE"/tasks/* 2> /dev/null
    exit 0
    ;;
scancel)
    for task; do rm -f "$FAKE/tasks/$task"; done
    ;;
sbatch)
    mode=$(cat "$FAKE/mode" 2> /dev/null || echo run)
    for word; do
        case $word in
        --array=0-*) last=${word#--array=0-} last=${last%%%*} ;;
        --comment=*) comment=${word#--comment=} ;;
        --output=*) output=${word#--output=} ;;
        esac
        script=$word
    done
    case $mode in
    refuse*)
        echo "sbatch: error: Batch job submission failed: ${mode#refuse }" >&2
        exit 1
        ;;
    big*)
        if [ "$last" -ge "${mode#big }" ]; then
            echo "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy" >&2
            exit 1
        fi
        ;;
    limit*)
        if [ $(($(cat "$FAKE"/tasks/* 2> /dev/null | grep -cE 'PENDING|RUNNING') + last + 1)) -gt "${mode#limit }" ]; then
            echo "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit)" >&2
            exit 1
        fi
        ;;
    lose)
        rm "$FAKE/mode"
        echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2
        exit 1
        ;;
    esac
    number=$(($(ls "$FAKE/arrays" | wc -l) + 1))
    touch "$FAKE/arrays/$number"
    for index in $(seq 0 "$last"); do
        task=$FAKE/tasks/${number}_$index
        if [ "$mode" = queue ] || [ "${mode%% *}" = big ]; then
            echo "$number|$index|PENDING|Resources||$comment" > "$task"
            continue
        fi
        echo "$number|$index|RUNNING|None|n1|$comment" > "$task"
        (
            export SLURM_ARRAY_JOB_ID=$number SLURM_ARRAY_TASK_ID=$index SLURM_JOB_ID=$number SLURM_RESTART_COUNT=0
            log=${output//%A/$number}
            bash "$script" >> "${log//%a/$index}" 2>&1
            code=$?
            echo $code > "$FAKE/code_${number}_$index"
            state=COMPLETED reason=None
            [ $code -eq 0 ] || state=FAILED reason=NonZeroExitCode
            echo "$number|$index|$state|$reason|n1|$comment" > "$task.new"
            mv "$task.new" "$task"
        ) > /dev/null 2>&1 &
    done
    if [ "$mode" = keep ]; then
        rm "$FAKE/mode"
        echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2
        exit 1
    fi
    echo "$number"
    ;;
esac
