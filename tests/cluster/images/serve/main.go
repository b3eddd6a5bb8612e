// Command serve answers every HTTP request with the name of the pod it runs in
// and the address that asked, on each port given (default 8080).
//
// It is the whole of the `distroless` image: one static program, no shell, no
// libc, no /etc/passwd. Web pods run it too, so that a test can tell which pod
// answered and whether the question came from inside the right one.
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
)

func main() {
	name, err := os.Hostname()
	if err != nil {
		log.Fatal(err)
	}
	answer := func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s from %s\n", name, r.RemoteAddr)
	}
	ports := os.Args[1:]
	if len(ports) == 0 {
		ports = []string{"8080"}
	}
	failed := make(chan error)
	for _, port := range ports {
		go func() { failed <- http.ListenAndServe(":"+port, http.HandlerFunc(answer)) }()
	}
	log.Printf("%s listens on %v", name, ports)
	log.Fatal(<-failed)
}
