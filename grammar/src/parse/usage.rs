//! How each instruction is written: the remedy where one has too little, or what it cannot have.

/// An example of an instruction, for "write …".
pub(super) fn usage(keyword: &str) -> &'static str {
    match keyword {
        "ADD" => "write `ADD SOURCE DESTINATION`",
        "ARG" => "write `ARG NAME` or `ARG NAME=DEFAULT`",
        "COPY" => "write `COPY SOURCE DESTINATION`",
        "ENV" => "write `ENV NAME=VALUE`",
        "EXPOSE" => "write `EXPOSE 8080` or `EXPOSE 53/udp`",
        "FROM" => "write `FROM image` or `FROM image AS name`",
        "HEALTHCHECK" => "write `HEALTHCHECK CMD command` or `HEALTHCHECK NONE`",
        "LABEL" => "write `LABEL NAME=VALUE`",
        "MAINTAINER" => "write `LABEL org.opencontainers.image.authors=\"NAME\"`",
        "ONBUILD" => "write an instruction behind it, as in `ONBUILD COPY . /src`",
        "SHELL" => "write `SHELL [\"/bin/sh\", \"-c\"]`",
        "STOPSIGNAL" => "write `STOPSIGNAL SIGTERM`",
        "USER" => "write `USER name` or `USER uid:gid`",
        "VOLUME" => "write `VOLUME /path`",
        "WORKDIR" => "write `WORKDIR /path`",
        _ => "write something behind it, or remove the line",
    }
}
