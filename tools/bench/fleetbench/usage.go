package fleetbench

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/shirou/gopsutil/v4/process"
)

// The measured parts.
const (
	partControlPlane = "controlplane"
	partBroker       = "broker"
	partDatabase     = "database"
	partAgents       = "agents"
)

// meter reads the usage of processes. Servers on other machines are not measured.
type meter struct{ parts map[string][]*process.Process }

func newMeter(ctx context.Context, o Options, plane int) (*meter, error) {
	m := &meter{parts: map[string][]*process.Process{}}
	programs := map[string]string{"beam.smp": partBroker, "mariadbd": partDatabase, "mysqld": partDatabase}
	all, err := process.ProcessesWithContext(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the processes: %w", err)
	}
	for _, p := range all {
		name, err := p.NameWithContext(ctx)
		part := programs[strings.TrimSpace(name)]
		switch int(p.Pid) {
		case plane:
			part = partControlPlane
		case os.Getpid():
			part = partAgents
		}
		used := part == partControlPlane || part == partAgents || part != "" && !o.HTTP
		if err == nil && used {
			m.parts[part] = append(m.parts[part], p)
		}
	}
	return m, nil
}

// Usage is the processor time and memory of one part.
type Usage struct {
	// CPUSeconds is the processor time of its processes.
	CPUSeconds float64 `json:"cpu_seconds"`
	// Resident is its resident memory in bytes, at the end.
	Resident uint64 `json:"resident_bytes"`
}

type usage map[string]Usage

// read returns the usage so far. Processes that cannot be read are left out.
func (m *meter) read(ctx context.Context) usage {
	u := usage{}
	for part, processes := range m.parts {
		var sum Usage
		for _, p := range processes {
			if t, err := p.TimesWithContext(ctx); err == nil {
				sum.CPUSeconds += t.User + t.System
			}
			if mem, err := p.MemoryInfoWithContext(ctx); err == nil {
				sum.Resident += mem.RSS
			}
		}
		u[part] = sum
	}
	return u
}

// since returns the usage after before.
func (u usage) since(before usage) usage {
	out := usage{}
	for part, now := range u {
		now.CPUSeconds -= before[part].CPUSeconds
		out[part] = now
	}
	return out
}

// perEndpoint returns the growth in memory of each part per endpoint, in bytes.
func perEndpoint(before, after usage, endpoints int) map[string]int64 {
	out := map[string]int64{}
	for part, now := range after {
		out[part] = (int64(now.Resident) - int64(before[part].Resident)) / int64(endpoints) //nolint:gosec // far below the limit
	}
	return out
}

// partsOf returns the names of the parts in the order of display.
func partsOf(u usage) []string {
	var names []string
	for _, name := range []string{partControlPlane, partBroker, partDatabase, partAgents} {
		if _, ok := u[name]; ok {
			names = append(names, name)
		}
	}
	return slices.Clip(names)
}
