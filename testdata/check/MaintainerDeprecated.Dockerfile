# finds MaintainerDeprecated at 3
FROM scratch
MAINTAINER me
