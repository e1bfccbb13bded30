# syntax=example.invalid/x
FROM scratch
