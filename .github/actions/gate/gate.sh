#!/usr/bin/env bash
# The action's own step, apart so that it can be run and tested anywhere.
# Reads BASELINE, BRANCH, KIT, BUNDLE, QUICK, INCONCLUSIVE and ARGUMENTS from the environment.
# Bash 3.2, which macOS has, is enough.
set -euo pipefail

# The first parent, off the commit itself: in a checkout of depth 1 it is named and not there.
first_parent() {
  git cat-file commit HEAD | sed -n '/^$/q; s/^parent //p' | head -n 1
}

parents() {
  git cat-file commit HEAD | sed -n '/^$/q; s/^parent //p' | wc -l
}

# Have one commit here, and no more history than there is already.
fetch_commit() {
  if git cat-file -e "$1^{commit}" 2>/dev/null; then
    return
  fi
  # Cutting the history of a whole clone would make a shallow one of it.
  local depth=()
  if [[ "$(git rev-parse --is-shallow-repository)" == true ]]; then
    depth=(--depth=1)
  fi
  git fetch --quiet --no-tags ${depth[@]+"${depth[@]}"} origin "$1" || {
    echo "gate: the commit $1, which this one is held against, cannot be fetched. Check out the" \
      "whole history: \`uses: actions/checkout\` with \`fetch-depth: 0\`; or set the input baseline." >&2
    exit 1
  }
}

if [[ -z "${BASELINE:-}" ]]; then
  # A merge of a pull request, or of a merge queue, is held against what it is merged into; a push
  # against its parent. A checkout of a pull request's own head has no such parent: then the branch
  # that it wants to join is fetched.
  commit=$(first_parent)
  if [[ "${GITHUB_EVENT_NAME:-}" == pull_request* && "$(parents)" -lt 2 ]]; then
    fetch_commit "refs/heads/${GITHUB_BASE_REF:-$BRANCH}"
    commit=$(git rev-parse FETCH_HEAD)
  fi
  if [[ -n "$commit" ]]; then
    fetch_commit "$commit"
    BASELINE="git:$commit"
  else
    echo "gate: the first commit of a repository has nothing to be held against"
    BASELINE=none
  fi
fi

options=(--out report "--inconclusive=${INCONCLUSIVE:-warn}")
[[ "$BASELINE" == none ]] || options+=("--baseline=$BASELINE")
[[ -z "${KIT:-}" ]] || options+=("--kit=$KIT")
[[ -z "${BUNDLE:-}" ]] || options+=("--bundle=$BUNDLE")
case "${QUICK:-false}" in
  [Tt][Rr][Uu][Ee] | 1 | [Yy][Ee][Ss]) options+=(--quick) ;;
esac
# As a shell would read them: quotes hold, and nothing is taken for a pattern.
while IFS= read -r -d '' argument; do
  options+=("$argument")
done < <(python -c 'import os, shlex, sys
sys.stdout.write("".join(f"{word}\0" for word in shlex.split(os.environ.get("ARGUMENTS", ""))))')
# On a busy runner the workers are timed before other processes, where sudo asks no password. What
# is started from here on inherits the right to it.
if command -v prlimit >/dev/null && command -v sudo >/dev/null; then
  sudo -n prlimit --pid $$ --nice=40 2>/dev/null || true
fi
exec python -m pytest -p optimize.plugin benchmarks "${options[@]}"
