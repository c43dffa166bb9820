#!/usr/bin/env bash
# Everything that needs a GPU, within 8 minutes: tests, engines, a training step, and looks that learn for as long as is left.
#
#   benchmarks/on_gpu.sh OUT DATA      OUT: folder of the logs and looks. DATA: with paintings/*.jpg and photos/.
#
# Each part has its limit in seconds and its log, OUT/PART.txt. A part that fails or runs out of time stops no other; the exit
# code is that of the last part that failed. The same command goes on with looks that are not finished.
#
# DEVICE=cpu tries the script without a GPU. SECONDS_SCALE, in percent, changes all limits (100). PYTHON: the interpreter.
set -u
out=${1:?expected: benchmarks/on_gpu.sh OUT DATA}
data=${2:?expected: benchmarks/on_gpu.sh OUT DATA}
device=${DEVICE:-cuda:0}
python=${PYTHON:-python}
[ -d "$data/photos" ] || { echo "$data/photos: no such folder; DATA holds paintings/ and photos/" >&2; exit 2; }
mkdir -p "$out"
failed=0

# part NAME SECONDS COMMAND...: SIGINT at the limit, so that a training run saves
part() {
    local name=$1 limit=$(($2 * ${SECONDS_SCALE:-100} / 100)) code=0
    shift 2
    [ "$limit" -gt 0 ] || limit=1  # 0 would be no limit
    timeout --kill-after=15 --signal=INT "$limit" "$@" > "$out/$name.txt" 2>&1 || code=$?
    case $code in
        0) echo "$name: done" ;;
        124 | 130) echo "$name: stopped after $limit s" ;;
        *) echo "$name: failed with exit code $code, see $out/$name.txt"; failed=$code ;;
    esac
}

[ "$device" = cpu ] && sizes="64x48" || sizes="256x256 512x512 1280x720"
[ "$device" = cpu ] && side=64 batch=1 || side=256 batch=8
part doctor 20 "$python" -m cyclecast doctor --no-cameras
part tests 90 "$python" -m pytest -q -m gpu -p no:cacheprovider
# shellcheck disable=SC2086  # each size is a word of its own
part engines 90 "$python" -m benchmarks.engines --device "$device" --generator resnet9 frame --sizes $sizes
part bench 40 "$python" -m cyclecast bench --model monet --device "${device%%:*}" --size "${sizes##* }" --json
part train_step 40 "$python" -m benchmarks.train_step --device "$device" --side $side --batch $batch
for painting in "$data"/paintings/*.jpg; do
    look=$(basename "$painting" .jpg)
    part "look-$look" 40 "$python" -m cyclecast style "$painting" --footage "$data/photos" -o "$out/$look.onnx" --steps 8000
done
exit $failed
