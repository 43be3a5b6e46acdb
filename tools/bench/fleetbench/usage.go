package fleetbench

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/shirou/gopsutil/v4/process"
)

// The parts whose use of the machine is measured.
const (
	partPlane    = "controlplane"
	partBroker   = "broker"
	partDatabase = "database"
	partAgents   = "agents"
)

// meter reads what processes use. A server on another machine is left out.
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
			part = partPlane
		case os.Getpid():
			part = partAgents
		}
		used := part == partPlane || part == partAgents || part != "" && !o.HTTP
		if err == nil && used {
			m.parts[part] = append(m.parts[part], p)
		}
	}
	return m, nil
}

// Usage is what a part of the system has used of the machine.
type Usage struct {
	// CPUSeconds is the time of its processes on a processor.
	CPUSeconds float64 `json:"cpu_seconds"`
	// Resident is its memory in bytes, at the end.
	Resident uint64 `json:"resident_bytes"`
}

type usage map[string]Usage

// read reads what has been used until now. What cannot be read is left out.
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

// since is what was used after before.
func (u usage) since(before usage) usage {
	out := usage{}
	for part, now := range u {
		now.CPUSeconds -= before[part].CPUSeconds
		out[part] = now
	}
	return out
}

// perEndpoint is by how many bytes each part has grown, for each endpoint.
func perEndpoint(before, after usage, endpoints int) map[string]int64 {
	out := map[string]int64{}
	for part, now := range after {
		out[part] = (int64(now.Resident) - int64(before[part].Resident)) / int64(endpoints) //nolint:gosec // far below the limit
	}
	return out
}

// partsOf are the names of the parts, in the order in which they are shown.
func partsOf(u usage) []string {
	var names []string
	for _, name := range []string{partPlane, partBroker, partDatabase, partAgents} {
		if _, ok := u[name]; ok {
			names = append(names, name)
		}
	}
	return slices.Clip(names)
}
