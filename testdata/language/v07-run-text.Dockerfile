FROM scratch
ENV A=x
RUN echo $A ${A:+y}
CMD echo $A
ENTRYPOINT ["$A"]
