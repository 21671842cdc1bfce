// Checks OpenShift manifests strictly against the types of github.com/openshift/api: unknown fields, wrong
// types and repeated keys are errors. Other kinds are left to the API server. Prints what it checked.
package main

import (
	"bytes"
	"fmt"
	"os"

	buildv1 "github.com/openshift/api/build/v1"
	imagev1 "github.com/openshift/api/image/v1"
	routev1 "github.com/openshift/api/route/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

var kinds = map[string]func() any{
	"build.openshift.io/v1 BuildConfig": func() any { return &buildv1.BuildConfig{} },
	"image.openshift.io/v1 ImageStream": func() any { return &imagev1.ImageStream{} },
	"route.openshift.io/v1 Route":       func() any { return &routev1.Route{} },
}

func main() {
	failed := len(os.Args) < 2
	for _, file := range os.Args[1:] {
		text, err := os.ReadFile(file)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		for _, document := range bytes.Split(text, []byte("\n---\n")) {
			failed = !check(file, document) || failed
		}
	}
	if failed {
		os.Exit(1)
	}
}

func check(file string, document []byte) bool {
	var kind metav1.TypeMeta
	if err := yaml.Unmarshal(document, &kind); err != nil {
		fmt.Printf("%s: %v\n", file, err)
		return false
	}
	name := kind.APIVersion + " " + kind.Kind
	object, known := kinds[name]
	if !known {
		fmt.Printf("%s: %s is not one of OpenShift's that are known here\n", file, name)
		return false
	}
	if err := yaml.UnmarshalStrict(document, object()); err != nil {
		fmt.Printf("%s: %s: %v\n", file, name, err)
		return false
	}
	fmt.Printf("%s: %s\n", file, name)
	return true
}
