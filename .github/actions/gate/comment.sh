#!/usr/bin/env bash
# Keeps one comment a gate on a pull request up to date: comment.sh FOLDER, where the report lies.
# Reads GITHUB_REPOSITORY, NUMBER, GH_TOKEN, GATE (what tells it from other gates of the pull
# request), OUTCOME (of the gate's step) and HEAD_SHA from the environment; asks with GitHub's own
# `gh`.
set -euo pipefail

folder=$1
name=$(printf %s "${GATE:-}" | tr -c 'A-Za-z0-9._/ -' _)
# Names that differ in other characters alone are two gates all the same.
marker="<!-- optimize-gate${name:+ $name $(printf %s "$GATE" | cksum | cut -d ' ' -f 1)} -->"
body=$(mktemp)
trap 'rm -f "$body"' EXIT

# A run without a verdict is told too: else what an earlier commit was told would stand for this one.
no_verdict() {
  printf '### FAIL · No verdict\n\nThe run ended before one.\n'
  if [[ "${OUTCOME:-}" != skipped && -s "$folder/failure.txt" ]]; then
    printf '\n'
    head -n 40 "$folder/failure.txt" | cut -c 1-500 | sed 's/^/    /'
  else
    printf "The job's log says why.\n"
  fi
}

# What a run that was stopped had written before its end is no verdict, and no pass is of a run that
# did not succeed.
has_verdict() {
  [[ -s "$folder/comment.md" ]] || return 1
  case "${OUTCOME:-}" in
    skipped | cancelled) return 1 ;;
    success | '') return 0 ;;
    *) [[ "$(sed -n 2p "$folder/comment.md")" != '### PASS'* ]] ;;
  esac
}

{
  echo "$marker"
  if has_verdict; then
    tail -n +2 "$folder/comment.md"
  else
    no_verdict
  fi
  printf '\n<sub>%s</sub>\n' "${name:+$name · }commit ${HEAD_SHA:-unknown}"
} >"$body"
# The first comment of this action's own: whoever can write a comment could write the marker too.
found=$(gh api --paginate "repos/$GITHUB_REPOSITORY/issues/$NUMBER/comments" \
  --jq ".[] | select(.user.login == \"github-actions[bot]\" and (.body | startswith(\"$marker\"))) | .id" | head -n 1)
if [[ -n "$found" ]]; then
  gh api --method PATCH "repos/$GITHUB_REPOSITORY/issues/comments/$found" --field "body=@$body" >/dev/null
else
  gh api --method POST "repos/$GITHUB_REPOSITORY/issues/$NUMBER/comments" --field "body=@$body" >/dev/null
fi
