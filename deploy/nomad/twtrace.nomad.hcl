# One agent on each client. The raw_exec driver starts it as root, and the agent gives up what it does not need; the binary
# must be on the client.
job "twtrace" {
  type        = "system"
  datacenters = ["*"]

  group "agent" {
    network {
      mode = "host"
      port "http" {
        static       = 9790
        host_network = "loopback"
      }
    }

    task "agent" {
      driver = "raw_exec"

      config {
        command = "/usr/bin/twtrace"
        args = [
          "agent", "--listen", "127.0.0.1:9790", "--dir", "${NOMAD_ALLOC_DIR}/data",
          "--keep", "2GiB", "--freeze", "warning", "--metrics-by", "program,unit",
        ]
      }

      resources {
        cpu        = 100
        memory     = 128
        memory_max = 512
      }

      service {
        provider = "nomad"
        name     = "twtrace"
        port     = "http"
        check {
          type     = "http"
          path     = "/healthz"
          interval = "15s"
          timeout  = "5s"
        }
      }
    }
  }
}
