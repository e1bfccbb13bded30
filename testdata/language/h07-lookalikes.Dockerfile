FROM scratch
RUN echo $((1<<2)) "<<EOF" '<<E' \<<F x<<G <<<H
CMD cat <<EOF
ENV A=<<EOF
RUN ["sh", "<<E"]
