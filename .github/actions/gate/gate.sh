#!/usr/bin/env bash
# The action's own step, apart so that it can be run and tested anywhere.
# Reads BASELINE, BRANCH, KIT, BUNDLE, QUICK, INCONCLUSIVE and ARGUMENTS from the environment.
set -euo pipefail

options=(--out report "--inconclusive=${INCONCLUSIVE:-warn}")
if [[ -z "${BASELINE:-}" ]]; then
  # A pull request is held against the branch that it wants to join; a push against its parent.
  if [[ "${GITHUB_EVENT_NAME:-}" == pull_request ]]; then
    git fetch --quiet --no-tags --depth=1 origin "${GITHUB_BASE_REF:-$BRANCH}"
    BASELINE="git:FETCH_HEAD"
  else
    git fetch --quiet --no-tags --deepen=1 origin "${GITHUB_SHA:-HEAD}"
    BASELINE="git:HEAD^"
  fi
fi
[[ "$BASELINE" == none ]] || options+=("--baseline=$BASELINE")
[[ -z "${KIT:-}" ]] || options+=("--kit=$KIT")
[[ -z "${BUNDLE:-}" ]] || options+=("--bundle=$BUNDLE")
[[ "${QUICK:-false}" != true ]] || options+=(--quick)
# Split on purpose: these are arguments.
# shellcheck disable=SC2206
options+=(${ARGUMENTS:-})
exec python -m pytest -p optimize.plugin benchmarks "${options[@]}"
