FROM scratch
ENV A="${X:?give it}"
