package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
	"github.com/MatthiasWiesner/tasker/controlplane/store/storetest"
)

func benchmark(b *testing.B, run func(b *testing.B, f *fixture)) {
	b.Helper()
	for name, options := range storetest.Dialects() {
		b.Run(name, func(b *testing.B) {
			f := newFixture(b, options(b))
			b.ReportAllocs()
			run(b, f)
		})
	}
}

func BenchmarkCreateTask(b *testing.B) {
	benchmark(b, func(b *testing.B, f *fixture) {
		for i := 0; b.Loop(); i++ {
			f.create(b, request(fmt.Sprint(i), "lb-1", "lb-2"))
		}
	})
}

func names(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("ep-%04d", i)
	}
	return list
}

// One round claims 200 orders of one task.
func BenchmarkClaimDue(b *testing.B) {
	benchmark(b, func(b *testing.B, f *fixture) {
		n := request("a", names(200)...)
		n.ReceiveTimeout = 1000 * time.Hour
		f.create(b, n)
		for b.Loop() {
			if c, err := f.ClaimDue(b.Context(), 200); len(c) != 200 || err != nil {
				b.Fatalf("%d claims, %v", len(c), err)
			}
			f.Add(store.ClaimHold)
		}
	})
}

// One round applies 200 updates, of one task or of 200.
func BenchmarkApply200(b *testing.B) {
	for _, tasks := range []int{1, 200} {
		b.Run(fmt.Sprintf("tasks=%d", tasks), func(b *testing.B) {
			benchmark(b, func(b *testing.B, f *fixture) {
				endpoints := names(200 / tasks)
				var ids []string
				for i := range tasks {
					ids = append(ids, f.create(b, request(fmt.Sprint(i), endpoints...)).ID)
				}
				for seq := int64(1); b.Loop(); seq++ {
					var batch []tasker.Report
					for _, id := range ids {
						for _, e := range endpoints {
							batch = append(batch, update(e, id, 1, seq, tasker.Running))
						}
					}
					if a := f.apply(b, batch...); a.Updates["applied"] != 200 {
						b.Fatalf("updates %v", a.Updates)
					}
				}
			})
		})
	}
}
