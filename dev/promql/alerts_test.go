// Package promql asks Prometheus' own engine about the alerts and the dashboard of the chart: whether
// each expression can be read, and whether each alert speaks when it should and is silent otherwise.
package promql

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"go.yaml.in/yaml/v3"
)

const files = "../../charts/voluba-align/files/"

func read(t *testing.T, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(files + name)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// The expression of each alert.
func alerts(t *testing.T) map[string]string {
	t.Helper()
	var file struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	if err := yaml.Unmarshal(read(t, "alerts.yaml"), &file); err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			found[rule.Alert] = rule.Expr
		}
	}
	return found
}

func TestTheDashboardsQueriesCanBeRead(t *testing.T) {
	var file struct {
		Panels []struct{ Targets []struct{ Expr string } }
	}
	if err := json.Unmarshal(read(t, "dashboard.json"), &file); err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, panel := range file.Panels {
		for _, target := range panel.Targets {
			query := strings.NewReplacer("$__rate_interval", "1m", "$namespace", "voluba").Replace(target.Expr)
			if _, err := parser.NewParser(parser.Options{}).ParseExpr(query); err != nil {
				t.Errorf("%s: %v", target.Expr, err)
			}
			count++
		}
	}
	if count < 12 {
		t.Errorf("%d queries, expected at least 12", count)
	}
}

// Series of one sample a minute, and whether an alert speaks after two hours of them.
var cases = []struct {
	alert, name, series string
	speaks              bool
}{
	{"VolubaAlignNobodyWorks", "one works, one waits", `
		voluba_align_leader{namespace="voluba", pod="a"} 1x120
		voluba_align_leader{namespace="voluba", pod="b"} 0x120`, false},
	{"VolubaAlignNobodyWorks", "all wait", `
		voluba_align_leader{namespace="voluba", pod="a"} 0x120
		voluba_align_leader{namespace="voluba", pod="b"} 0x120`, true},
	{"VolubaAlignNobodyWorks", "two work", `
		voluba_align_leader{namespace="voluba", pod="a"} 1x120
		voluba_align_leader{namespace="voluba", pod="b"} 1x120`, true},
	{"VolubaAlignNobodyWorks", "only that of another namespace is there", `
		voluba_align_leader{namespace="other", pod="a"} 1x120`, true},
	{"VolubaAlignReconcilesFail", "one error in five minutes", `
		voluba_align_reconcile_errors_total{namespace="voluba"} 0+0.2x120`, false},
	{"VolubaAlignReconcilesFail", "one error in six seconds on each of two replicas", `
		voluba_align_reconcile_errors_total{namespace="voluba", pod="a"} 0+10x120
		voluba_align_reconcile_errors_total{namespace="voluba", pod="b"} 0+10x120`, true},
	{"VolubaAlignRequestsWait", "requests wait and Jobs are made", `
		voluba_align_alignment_requests{namespace="voluba", phase="Pending"} 3x120
		voluba_align_api_requests_total{namespace="voluba", verb="POST", resource="jobs"} 0+1x120`, false},
	{"VolubaAlignRequestsWait", "requests wait and no Job is made any more", `
		voluba_align_alignment_requests{namespace="voluba", phase="Pending"} 3x120
		voluba_align_api_requests_total{namespace="voluba", verb="POST", resource="jobs"} 7x120`, true},
	{"VolubaAlignRequestsWait", "requests wait and no Job was ever made", `
		voluba_align_alignment_requests{namespace="voluba", phase="Pending"} 3x120`, true},
	{"VolubaAlignRequestsWait", "nothing waits", `
		voluba_align_alignment_requests{namespace="voluba", phase="Pending"} 0x120`, false},
}

func TestAlertsSpeakWhenTheyShould(t *testing.T) {
	expressions, seen := alerts(t), map[string]bool{}
	for _, test := range cases {
		t.Run(test.alert+": "+test.name, func(t *testing.T) {
			expression, known := expressions[test.alert]
			if !known {
				t.Fatalf("no alert %s in alerts.yaml", test.alert)
			}
			storage := promqltest.LoadedStorage(t, "load 1m\n  "+strings.TrimSpace(test.series))
			engine := promqltest.NewTestEngine(t, false, 0, 1000)
			query, err := engine.NewInstantQuery(t.Context(), storage, nil, expression, time.Unix(2*60*60, 0))
			if err != nil {
				t.Fatal(err)
			}
			vector, err := query.Exec(t.Context()).Vector()
			if err != nil || (len(vector) > 0) != test.speaks {
				t.Errorf("%s\ngives %v (%v), expected to speak: %v", expression, vector, err, test.speaks)
			}
		})
		seen[fmt.Sprint(test.alert, test.speaks)] = true
	}
	for alert := range expressions {
		if !seen[alert+"true"] || !seen[alert+"false"] {
			t.Errorf("%s: needs a case where it speaks and one where it is silent", alert)
		}
	}
}
