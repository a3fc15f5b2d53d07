"""A server that accepts connections and says nothing."""
import resource, socket, sys

limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
server = socket.create_server(("0.0.0.0", int(sys.argv[1])), backlog=4000)
kept = []
while True:
    kept.append(server.accept()[0])
