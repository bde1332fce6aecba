# Runs of several ranks under MPI's own launchers, Open MPI's and MPICH's where both are installed, on one machine and on four network namespaces.
# RANK_KILLS: how often a rank is killed or stopped per launcher (2). RANK_HOSTS=1: the four namespaces, too, as root, where a cable is cut RANK_CUTS (1) times per
# launcher. RANK_ALL=1: U-Nets of every method on 2, 4 and 8 ranks of every launcher. What is asked for more often is told as it comes.
load common

build=$(cd "$(dirname "$RETORT")" && pwd)

# kinds: launchers with a library of theirs
kinds() {
    for kind in openmpi mpich; do
        [ -e "$build/tests/$kind/libretort_mpi.so" ] && command -v "mpirun.$kind" >/dev/null && echo "$kind"
    done
    true
}

setup_file() {
    export BASE=$BATS_FILE_TMPDIR
    "$RETORT" train --data toy:moons --net examples/mlp.json --out "$BASE/teacher" --updates 30 --threads 1 -q
    "$RETORT" train --data toy:moons --net examples/mlp.json --out "$BASE/whole" --updates 400 --threads 1 --shards 8 --checkpoint-every 20 -q
}

setup() {
    t=$BATS_TEST_TMPDIR
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    export ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0 # MPI's libraries keep what they have
}

needs_mpi() { [ -n "$(kinds)" ] || skip "no MPI is installed"; }

# launch KIND N COMMAND...
launch() {
    local kind=$1 n=$2 more=()
    shift 2
    [ "$kind" = mpich ] || more=(--oversubscribe --bind-to none --mca mpi_yield_when_idle 1)
    RETORT_MPI_LIBRARY=$build/tests/$kind/libretort_mpi.so timeout 300 "mpirun.$kind" "${more[@]}" -n "$n" "$@"
}

# tell LINE: how a loss ended, where many were asked for
tell() { [ -z "${RANK_KILLS-}${RANK_CUTS-}" ] || echo "# $*" >&3; }

weights() { cat "$1"/student/unet/*.safetensors; }

@test "any number of ranks under any launcher gives the bits of one process" {
    needs_mpi
    for method in "2 8 pd --steps 2,1 --teacher-steps 4 --updates 10" "4 kd --pairs 300 --teacher-steps 4 --updates 20"; do
        ranks=${method%%[a-z]*} method=${method#"${method%%[a-z]*}"} name=${method%% *}
        # shellcheck disable=SC2206
        args=(distill $method --teacher "$BASE/teacher" --batch 16 --shards 8 --threads 1)
        "$RETORT" "${args[@]}" --out "$t/$name" -q
        for kind in $(kinds); do
            for n in $ranks; do
                launch "$kind" $n "$RETORT" "${args[@]}" --out "$t/$name-$kind-$n" >"$t/out" 2>"$t/err" || { cat "$t/err"; return 1; }
                cmp <(weights "$t/$name") <(weights "$t/$name-$kind-$n")
                grep -q "^$n ranks of 1 thread, by .*; 8 shards" "$t/err" || { cat "$t/err"; return 1; }
                grep -q '^rank 0 sent [0-9]* bytes to the others by .*$' "$t/err" || { cat "$t/err"; return 1; }
                [ "$(grep -c 'updates, .* examples' "$t/err")" -eq 1 ] || { cat "$t/err"; return 1; } # one speaks
            done
        done
    done
}

# unet_teacher: a small U-Net with norms and attention, taught coloured pictures
unet_teacher() {
    "$DRAW_PICTURES" "$t/pictures" 8
    sed 's/"num_class_embeds": 10/"num_class_embeds": 4/' tests/data/golden/unet2d/classes/config.json >"$t/unet.json"
    "$RETORT" train --data "$t/pictures" --resize 8 --crop 8 --net "$t/unet.json" --out "$t/teacher" --updates 20 --batch 16 --threads 1 -q
}

@test "U-Nets of pictures, too" {
    needs_mpi
    unet_teacher
    local kinds i=0 n=40
    ! sanitized || n=6
    mapfile -t kinds < <(kinds)
    for method in "8 pd --steps 2,1 --teacher-steps 4 --updates $((n / 2))" "4 kd --pairs 300 --teacher-steps 4 --updates $n" "2 vsd --score-updates 2 --updates $n" \
        "8 dmd --pairs 150 --teacher-steps 4 --score-updates 1 --updates $n" "4 sid --updates $n"; do
        # launchers take turns
        ranks=${method%% *} method=${method#* } by=${kinds[i++ % ${#kinds[@]}]}
        [ -z "${RANK_ALL-}" ] || ranks="2 4 8" by=${kinds[*]}
        # shellcheck disable=SC2206
        args=(distill $method --teacher "$t/teacher" --batch 16 --shards 8 --threads 1 -q)
        "$RETORT" "${args[@]}" --out "$t/${method%% *}"
        for kind in $by; do
            for r in $ranks; do
                launch "$kind" "$r" "$RETORT" "${args[@]}" --out "$t/${method%% *}-$kind-$r" 2>"$t/err" || { cat "$t/err"; return 1; }
                cmp <(weights "$t/${method%% *}") <(weights "$t/${method%% *}-$kind-$r")
            done
        done
    done
    args=(distill kd --pairs 300 --teacher-steps 4 --updates $n --teacher "$t/teacher" --batch 16 --shards 8 --threads 1 --out "$t/parts" -q)
    launch "${kinds[0]}" 4 "$RETORT" "${args[@]}" --until-update $((n / 3))
    "$RETORT" distill kd --out "$t/parts" --resume -q --threads 1 --until-update $((3 * n / 4))
    launch "${kinds[-1]}" 8 "$RETORT" distill kd --out "$t/parts" --resume -q --threads 1
    cmp <(weights "$t/kd") <(weights "$t/parts")
}

@test "without a library that joins them ranks do not run, each for itself" {
    for n in OMPI_COMM_WORLD_SIZE PMI_SIZE SLURM_STEP_NUM_TASKS; do
        (export $n=4 RETORT_MPI_LIBRARY=$t/none.so
            fails 8 "4 ranks were started, but no library joins them" train --data toy:moons --net examples/mlp.json --out "$t/run" --updates 5)
    done
    [ ! -e "$t/run" ]
    [ "$(kinds | wc -l)" -eq 2 ] || return 0 # another launcher's library
    code=0
    RETORT_MPI_LIBRARY=$build/tests/openmpi/libretort_mpi.so timeout 100 mpirun.mpich -n 2 "$RETORT" train --data toy:moons --net examples/mlp.json \
        --out "$t/run" --updates 5 >"$t/out" 2>&1 || code=$?
    [ "$code" -eq 8 ] || { echo "exit $code"; cat "$t/out"; return 1; }
    grep -q "2 ranks were started, but Open MPI .* sees 1" "$t/out" || { cat "$t/out"; return 1; }
    [ ! -e "$t/run" ]
}

@test "the program is linked to no MPI" {
    never bash -c "ldd '$RETORT' | grep -i libmpi"
}

@test "wrong requests are refused once, for all ranks" {
    needs_mpi
    for kind in $(kinds); do
        code=0
        launch "$kind" 4 "$RETORT" train --data toy:moons --net examples/mlp.json --out "$t/run" --shards 2 >"$t/out" 2>&1 || code=$?
        [ "$code" -eq 2 ] || { echo "exit $code"; cat "$t/out"; return 1; }
        [ "$(grep -c 'the run has 2 shards, which 4 ranks cannot share; use 1 or 2' "$t/out")" -eq 1 ] || { cat "$t/out"; return 1; }
        [ ! -e "$t/run" ]
    done
    fails 2 "must be a power of two" train --data toy:moons --net examples/mlp.json --out "$t/run" --shards 3
    fails 2 "does not divide the batch, 20" train --data toy:moons --net examples/mlp.json --out "$t/run" --shards 8 --batch 20
    fails 2 "5 does not divide the shard of a batch, 16" train --data toy:moons --net examples/mlp.json --out "$t/run" --shards 4 --micro-batch 5
}

# runs PID: is it there, and not only waited for?
runs() { grep -q '^State:[[:space:]]*[^Z[:space:]]' "/proc/$1/status" 2>/dev/null; }

# lose KIND SIGNAL RANK: a run of four ranks loses one when it has a checkpoint; within the deadline and 5 s all are gone, and one process ends it
lose() {
    local kind=$1 signal=$2 rank=$3 out=$t/$1-$2-$3 args file
    args=(train --data toy:moons --net examples/mlp.json --out "$out" --updates 400 --threads 1 --shards 8 --checkpoint-every 20 --timeout 3 -q)
    mkdir "$out-pids"
    launch "$kind" 4 tests/cli/rank "$out-pids" "$RETORT" "${args[@]}" >"$out-log" 2>&1 3>&- &
    local launcher=$! code=0 pid
    while ! compgen -G "$out/checkpoints/update-*" >/dev/null; do
        kill -0 $launcher || { cat "$out-log"; return 1; }
        sleep 0.02
    done
    pid=$(cat "$out-pids/pid-$rank")
    local began=$SECONDS
    kill "-$signal" "$pid" 2>/dev/null || true
    wait $launcher || code=$?
    kill -KILL "$pid" 2>/dev/null || true
    for file in "$out-pids"/pid-*; do # the launcher may return before the others have gone
        while runs "$(cat "$file")" && [ $((SECONDS - began)) -le 100 ]; do sleep 0.05; done
    done
    local took=$((SECONDS - began))
    tell "$kind $signal $rank: mpirun left with $code, all ranks gone after $took s"
    [ $took -le 100 ] || { echo "$kind $signal: $took s"; return 1; } # 3 + 5 where nothing else runs
    if [ "$code" -ne 0 ]; then # not over before
        echo "$kind $signal $rank: exit $code"
        [ "$signal" != STOP ] || [ "$code" -eq 8 ] || { cat "$out-log"; return 1; }
        # MPICH's launcher may end before it has passed on what was said
        [ "$signal" != STOP ] || [ "$kind" = mpich ] || grep -q "rank $rank has not answered for 3 s" "$out-log" || { cat "$out-log"; return 1; }
        for file in "$out-pids"/code-*; do # of those that were not killed before they could leave one
            [ ! -e "$file" ] || [ "$file" = "$out-pids/code-$rank" ] || [ "$(cat "$file")" -eq 8 ] || [ "$(cat "$file")" -gt 128 ] ||
                { echo "$file: $(cat "$file")"; cat "$out-log"; return 1; }
        done
        "$RETORT" train --out "$out" --resume -q --threads 1
    fi
    cmp "$BASE/whole/model/unet/diffusion_pytorch_model.safetensors" "$out/model/unet/diffusion_pytorch_model.safetensors"
}

@test "a rank that is killed or stopped ends the run, and nothing is lost" {
    needs_mpi
    for kind in $(kinds); do
        for ((k = 0; k < ${RANK_KILLS:-2}; k++)); do
            lose "$kind" "$([ $((k % 2)) -eq 1 ] && echo STOP || echo KILL)" $(((k / 2 + 1) % 4))
            rm -rf "$t/$kind"-*
        done
    done
}

@test "all ranks stop after the update in which one is asked to" {
    needs_mpi
    for kind in $(kinds); do
        out=$t/$kind
        mkdir "$out-pids"
        launch "$kind" 2 tests/cli/rank "$out-pids" "$RETORT" train --data toy:moons --net examples/mlp.json --out "$out" --updates 1M --threads 1 \
            --shards 8 --checkpoint-every 0 --set run.log-every=10 >"$out-log" 2>&1 3>&- &
        launcher=$!
        while [ ! -e "$out/metrics.jsonl" ]; do kill -0 $launcher; sleep 0.02; done
        kill -TERM "$(cat "$out-pids/pid-1")"
        wait $launcher || true
        at=$(sed -n 's/.*stopped after update \([0-9]*\);.*/\1/p' "$out-log")
        if [ -n "$at" ]; then
            [ -e "$out/checkpoints/update-$at/manifest.json" ] || { cat "$out-log"; return 1; }
            "$RETORT" train --out "$out" --resume -q --threads 1 --until-update $((at + 5))
        else # the signal came while the rank waited, and the other took its time
            grep -q "was told to end" "$out-log" || { cat "$out-log"; return 1; }
        fi
    done
}

@test "an evaluation on several ranks gives the same figures" {
    needs_mpi
    args=(eval "$BASE/teacher" --reference toy:moons:500 --n 500 --steps 2,4 --seed 3 --threads 1)
    "$RETORT" "${args[@]}" --out "$t/one.json" -q >"$t/table"
    figures() { grep -v 'seconds\|ms_per_sample\|threads' "$1"; }
    for kind in $(kinds); do
        launch "$kind" 3 "$RETORT" "${args[@]}" --out "$t/$kind.json" -q >"$t/$kind-table" 2>"$t/err" || { cat "$t/err"; return 1; }
        diff <(figures "$t/one.json") <(figures "$t/$kind.json")
        [ "$(wc -l <"$t/table")" -eq "$(wc -l <"$t/$kind-table")" ]
    done
}

# ---- hosts: four network namespaces, joined by a bridge, that share the files

hosts_up() {
    ip link add br_retort type bridge && ip link set br_retort up || return 1
    for i in 1 2 3 4; do
        ip netns add "rt$i" && ip link add "vrt$i" type veth peer name eth0 netns "rt$i" && ip link set "vrt$i" master br_retort up || return 1
        ip netns exec "rt$i" ip link set lo up
        ip netns exec "rt$i" ip link set eth0 up
        ip netns exec "rt$i" ip addr add "10.77.0.$i/24" dev eth0
        mkdir -p "/etc/netns/rt$i"
        { echo 127.0.0.1 localhost; for j in 1 2 3 4; do echo "10.77.0.$j rt$j"; done; } >"/etc/netns/rt$i/hosts"
    done
}

hosts_down() {
    for i in 1 2 3 4; do
        ip netns pids "rt$i" | xargs -r kill -KILL || true # what a cut has left there
        ip netns del "rt$i" || true
        ip link del "vrt$i" || true
        rm -rf "/etc/netns/rt$i"
    done
    rmdir /etc/netns || true
    ip link del br_retort || true
} 2>/dev/null

teardown() { [ -z "${hosts-}" ] || hosts_down; }

# launch_hosts KIND COMMAND...: a rank on each of the four
launch_hosts() {
    local kind=$1 shell=$PWD/tests/cli/namespace-shell
    shift
    if [ "$kind" = mpich ]; then
        "$shell" rt1 UCX_TLS=tcp,self UCX_NET_DEVICES=eth0 FI_PROVIDER=tcp RETORT_MPI_LIBRARY="$build/tests/$kind/libretort_mpi.so" timeout -k 5 250 mpirun.mpich -launcher ssh -launcher-exec "$shell" -hosts rt1,rt2,rt3,rt4 -n 4 "$@"
    else
        "$shell" rt1 RETORT_MPI_LIBRARY="$build/tests/$kind/libretort_mpi.so" timeout -k 5 250 mpirun.openmpi --map-by ppr:1:node --bind-to none --host rt1,rt2,rt3,rt4 \
            --mca plm_rsh_agent "$shell" --mca btl tcp,self --mca btl_tcp_if_include eth0 --mca oob_tcp_if_include eth0 -x RETORT_MPI_LIBRARY -n 4 "$@"
    fi
}

# cut_cable KIND I: a run on the four hosts loses the cable of host I when it has a checkpoint; at the deadline those that can be heard say so, and nothing is lost
cut_cable() {
    local kind=$1 host=$2 out=$t/cut-$1-$2 launcher k began
    rm -rf "$out"
    launch_hosts "$kind" "$(realpath "$RETORT")" train --data toy:moons --net examples/mlp.json --out "$out" --updates 20000 --threads 1 --shards 8 \
        --checkpoint-every 20 --timeout 3 -q >"$out-log" 2>&1 3>&- &
    launcher=$!
    while ! compgen -G "$out/checkpoints/update-*" >/dev/null; do
        kill -0 $launcher || { cat "$out-log"; return 1; }
        sleep 0.02
    done
    ip link set "vrt$host" down
    began=$SECONDS
    for ((k = 0; k < 1000; k++)); do # the ranks end; a launcher waits for what it cannot reach
        ! grep -q "has not answered for 3 s\|is gone" "$out-log" || break
        sleep 0.1
    done
    tell "$kind, cable of host $host: $(grep -o -m 1 "rank .* has not answered for 3 s\|rank .* is gone" "$out-log") after $((SECONDS - began)) s"
    grep -q "has not answered for 3 s\|is gone" "$out-log" || { cat "$out-log"; return 1; }
    for i in 1 2 3 4; do ip netns pids "rt$i" | xargs -r kill -KILL; done
    wait $launcher || true
    ip link set "vrt$host" up
    "$RETORT" train --out "$out" --resume -q --threads 1 --until-update 200
}

@test "four hosts give the same bits, and a cable that is cut ends the run" {
    needs_mpi
    [ -n "${RANK_HOSTS-}" ] || skip "RANK_HOSTS=1 makes network namespaces of this machine"
    [ "$(id -u)" -eq 0 ] && command -v ip >/dev/null || skip "network namespaces are for root"
    hosts=1
    hosts_down
    hosts_up 2>"$t/err" || skip "no network namespaces here"
    args=(distill kd --teacher "$BASE/teacher" --pairs 300 --teacher-steps 4 --updates 40 --batch 16 --shards 8 --threads 1 -q)
    "$RETORT" "${args[@]}" --out "$t/one"
    for kind in $(kinds); do
        code=0
        launch_hosts "$kind" "$(realpath "$RETORT")" "${args[@]}" --out "$t/$kind" >"$t/out" 2>&1 || code=$?
        [ $code -ne 124 ] && [ $code -ne 137 ] || echo "$kind: mpirun had not returned after 250 s; $(find "$t/$kind/student" -name '*.safetensors' | wc -l) results are there"
        [ $code -eq 0 ] || { echo "exit $code"; cat "$t/out"; return 1; }
        cmp <(weights "$t/one") <(weights "$t/$kind")
        for ((k = 0; k < ${RANK_CUTS:-1}; k++)); do cut_cable "$kind" $((2 + (k + 1) % 3)); done
    done
}
