FROM scratch
COPY https://h.invalid/x /x
