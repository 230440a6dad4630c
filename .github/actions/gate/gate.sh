#!/usr/bin/env bash
# The action's own step, apart so that it can be run and tested anywhere.
# Reads BASELINE, BRANCH, BASE_SHA, BEFORE, KIT, BUNDLE, QUICK, INCONCLUSIVE and ARGUMENTS from the
# environment. Bash 3.2, which macOS has, is enough.
set -euo pipefail

# What an earlier gate said is not for the pull request to be told of this one, however this one ends.
# The report itself stays where it may be the baseline.
rm -f report/comment.md report/badge.json report/report.html report/report.md report/failure.txt
case "${BASELINE:-}" in
  *report | *report/ | *report/report.json) ;;
  *) rm -f report/report.json ;;
esac

refuse() {
  mkdir -p report
  echo "$*" >report/failure.txt
  echo "gate: $*" >&2
  exit 1
}

# Off the commit itself: in a checkout of depth 1 its parents are named and not there.
parents() {
  git cat-file commit HEAD | sed -n '1,/^$/s/^parent //p'
}

# Where the branches are that a pull request may join. The checkout of a fork has the fork for origin.
remote() {
  local own=${GITHUB_REPOSITORY:-} origin
  if [[ -z "$own" ]]; then
    echo origin
    return
  fi
  origin=$(git remote get-url origin)
  origin=${origin%/}
  case "${origin%.git}" in
    *"/$own") echo origin ;;
    https://*) echo "${GITHUB_SERVER_URL:-https://github.com}/$own" ;;
    *) echo origin ;;
  esac
}

fetch() {
  # Cutting the history of a whole clone would make a shallow one of it.
  local depth=()
  if [[ "$(git rev-parse --is-shallow-repository)" == true ]]; then
    depth=(--depth=1)
  fi
  git fetch --quiet --no-tags ${depth[@]+"${depth[@]}"} "$(remote)" "$1"
}

# Have one commit here, and no more history than there is already.
fetch_commit() {
  git cat-file -e "$1^{commit}" 2>/dev/null || fetch "$1" ||
    refuse "the commit $1, which this one is held against, cannot be fetched. Check out the whole" \
      "history: \`uses: actions/checkout\` with \`fetch-depth: 0\`; or set the input baseline."
}

# What HEAD is held against, in the variable `commit`; empty for a repository's first commit.
find_base() {
  local head all event=${GITHUB_EVENT_NAME:-}
  head=$(git rev-parse HEAD)
  all=$(parents)
  commit=${all%%$'\n'*}
  case "$event" in
    pull_request*)
      # Its own checkout is the branch that is to be joined: nothing of the pull request is there.
      if [[ "$event" == pull_request_target && "${GITHUB_SHA:-}" == "$head" ]]; then
        refuse "$head is checked out, and pull_request_target checks out the branch, not the change." \
          "Check out the pull request (\`ref: refs/pull/NUMBER/merge\`), or set the input baseline."
      fi
      # A merge that the host made is held against what it is merged into. Whatever else is checked
      # out of a pull request may have any parents: there it is the branch that it wants to join.
      if [[ "$event" == pull_request && "$all" == *$'\n'* && "${GITHUB_SHA:-$head}" == "$head" ]]; then
        :
      elif [[ -n "${BASE_SHA:-}" ]]; then
        commit=$BASE_SHA
      else
        fetch "refs/heads/${GITHUB_BASE_REF:-$BRANCH}" ||
          refuse "the branch ${GITHUB_BASE_REF:-$BRANCH} cannot be fetched; set the input baseline."
        commit=$(git rev-parse FETCH_HEAD)
      fi
      ;;
    merge_group) commit=${BASE_SHA:-$commit} ;;
    push)
      # What the branch was before: a push may have several commits. Of a new one that is all zeros.
      if [[ "${BEFORE:-}" == *[1-9a-f]* ]] &&
        { git cat-file -e "$BEFORE^{commit}" 2>/dev/null || fetch "$BEFORE" 2>/dev/null; }; then
        commit=$BEFORE
      fi
      ;;
  esac
  if [[ "$commit" == "$head" ]]; then
    refuse "$head is checked out, and it is also what it would be held against: it always passes so." \
      "Check out the pull request (\`ref: refs/pull/NUMBER/merge\`), or set the input baseline."
  fi
}

# Whether a table tool.optimize may be in what is read, however TOML writes it. What cannot be read is
# no reason to leave out the baseline: the run says what is wrong with it.
tells_settings() {
  local code=0
  python -c 'import sys
try:
    import tomllib
except ImportError:
    import tomli as tomllib
table = tomllib.loads(sys.stdin.buffer.read().decode())
sys.exit(0 if "optimize" in table.get("tool", {}) else 3)' 2>/dev/null || code=$?
  [[ $code -ne 3 ]]
}

# Whether a project's settings are in a revision; where HEAD has none itself, that says nothing.
has_settings() {
  local file listed content lost="Fetch whole commits (no \`filter\` at checkout), or set the input baseline."
  file="$(git rev-parse --show-prefix)pyproject.toml"
  [[ -f pyproject.toml ]] && tells_settings <pyproject.toml || return 0
  # That there is no such file is one thing, that it cannot be read another.
  listed=$(git ls-tree --full-tree --name-only "$1" -- "$file") || refuse "$1 cannot be read." "$lost"
  [[ -n "$listed" ]] || return 1
  content=$(git show "$1:$file") || refuse "$file of $1 cannot be read." "$lost"
  tells_settings <<<"$content"
}

if [[ -z "${BASELINE:-}" ]]; then
  find_base
  BASELINE=none
  if [[ -z "$commit" ]]; then
    echo "gate: the first commit of a repository has nothing to be held against"
  else
    fetch_commit "$commit"
    if has_settings "$commit"; then
      BASELINE="git:$commit"
    else
      echo "gate: $commit has no [tool.optimize] in pyproject.toml yet: there is nothing to be held against"
    fi
  fi
fi

options=(--out report "--inconclusive=${INCONCLUSIVE:-warn}")
[[ "$BASELINE" == none ]] || options+=("--baseline=$BASELINE")
[[ -z "${KIT:-}" ]] || options+=("--kit=$KIT")
[[ -z "${BUNDLE:-}" ]] || options+=("--bundle=$BUNDLE")
case "${QUICK:-false}" in
  [Tt][Rr][Uu][Ee] | 1 | [Yy][Ee][Ss]) options+=(--quick) ;;
esac
# As a shell would read them: quotes hold, and nothing is taken for a pattern. Of a process that is
# read from, bash does not see the failure: so the end is told too.
while IFS= read -r -d '' argument; do
  options+=("$argument")
done < <(python -c 'import os, shlex, sys
sys.stdout.write("".join(f"{word}\0" for word in [*shlex.split(os.environ.get("ARGUMENTS", "")), "end"]))')
last=$((${#options[@]} - 1))
if [[ "${options[last]}" != end ]]; then
  refuse "the input arguments cannot be read: ${ARGUMENTS:-}. See its quotes."
fi
unset "options[last]"
# On a busy runner the workers are timed before other processes, where sudo asks no password. What
# is started from here on inherits the right to it.
if command -v prlimit >/dev/null && command -v sudo >/dev/null; then
  sudo -n prlimit --pid $$ --nice=40 --rtprio=1 2>/dev/null || true
fi
exec python -m pytest -p optimize.plugin benchmarks "${options[@]}"
