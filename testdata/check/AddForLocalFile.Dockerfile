# finds AddForLocalFile at 3
FROM scratch
ADD config.json /etc/
ADD a.tar.gz /
ADD src /src
