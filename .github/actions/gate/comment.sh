#!/usr/bin/env bash
# Keeps one comment on a pull request up to date: comment.sh FILE.
# Reads GITHUB_REPOSITORY, NUMBER and GH_TOKEN from the environment; asks with GitHub's own `gh`.
set -euo pipefail

file=$1
if [[ ! -s "$file" ]]; then
  echo "gate: $file is not there: the run ended before a verdict" >&2
  exit 1
fi
marker=$(head -n 1 "$file")
# The first comment of this action's own: whoever can write a comment could write the marker too.
found=$(gh api --paginate "repos/$GITHUB_REPOSITORY/issues/$NUMBER/comments" \
  --jq ".[] | select(.user.login == \"github-actions[bot]\" and (.body | startswith(\"$marker\"))) | .id" | head -n 1)
if [[ -n "$found" ]]; then
  gh api --method PATCH "repos/$GITHUB_REPOSITORY/issues/comments/$found" --field "body=@$file" >/dev/null
else
  gh api --method POST "repos/$GITHUB_REPOSITORY/issues/$NUMBER/comments" --field "body=@$file" >/dev/null
fi
