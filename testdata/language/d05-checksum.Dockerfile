FROM scratch
ADD --checksum=sha256:00 https://h.invalid/x /x
