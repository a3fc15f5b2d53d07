// Fifty goroutines share http.Transport, which keeps MaxIdleConnsPerHost connections: two, unless KEEP says another number.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

func main() {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if keep, err := strconv.Atoi(os.Getenv("KEEP")); err == nil {
		transport.MaxIdleConnsPerHost = keep
	}
	client := &http.Client{Transport: transport}
	end := time.Now().Add(7 * time.Second)
	var requests int64
	var group sync.WaitGroup
	for worker := 0; worker < 50; worker++ {
		group.Add(1)
		go func() {
			defer group.Done()
			for time.Now().Before(end) {
				response, err := client.Get("http://127.0.0.1:8091/page")
				if err != nil {
					panic(err)
				}
				// It works on the answer before it reads it to the end.
				time.Sleep(50 * time.Millisecond)
				io.Copy(io.Discard, response.Body)
				response.Body.Close()
				atomic.AddInt64(&requests, 1)
				time.Sleep(50 * time.Millisecond)
			}
		}()
	}
	group.Wait()
	fmt.Printf("{\"requests\": %d, \"seconds\": 7}\n", requests)
}
