FROM scratch
COPY git@h.invalid:a/b.git /x
