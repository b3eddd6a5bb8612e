// Command kube is every program of a small Kubernetes in one file, so that a
// test can start a real control plane and a real kubelet on one machine with
// nothing but a Go toolchain.
//
// Each program is upstream's own, under its own name and with its own flags,
// called as `kube NAME …` or through a link of that name. `up` starts each as a
// process of its own, so that a test can kill one and leave the rest alone. We
// add no behaviour: what the tests see is what Kubernetes does.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	_ "k8s.io/client-go/plugin/pkg/client/auth"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// A program is made only when it is the one asked for: upstream's constructors
// register flags and feature gates in tables that belong to the whole process.
var programs = map[string]func(){
	"etcd":                    func() { etcdmain.Main(os.Args) },
	"kube-apiserver":          func() { run(apiserver.NewAPIServerCommand()) },
	"kube-controller-manager": func() { run(controllermanager.NewControllerManagerCommand()) },
	"kube-proxy":              func() { run(proxy.NewProxyCommand()) },
	"kube-scheduler":          func() { run(scheduler.NewSchedulerCommand()) },
	"kubelet":                 func() { run(kubelet.NewKubeletCommand(context.Background())) },
	"kubectl":                 func() { kubectlutil.CheckErr(cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand())) },
}

func main() {
	name := filepath.Base(os.Args[0])
	if _, linked := programs[name]; !linked && len(os.Args) > 1 {
		name = os.Args[1]
		os.Args = os.Args[1:]
	}
	start, known := programs[name]
	if !known {
		fmt.Fprintf(os.Stderr, "usage: kube <%s> [flags]\n", strings.Join(names(), "|"))
		os.Exit(2)
	}
	start()
}

func run(command *cobra.Command) { os.Exit(cli.Run(command)) }

func names() []string {
	all := make([]string, 0, len(programs))
	for name := range programs {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}
