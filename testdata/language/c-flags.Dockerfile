FROM scratch
COPY --chown=u:g --chmod=u=rwX,go=rX --link --parents --exclude=*.md --exclude=!a.md ["a b", "c d", "/e f/"]
