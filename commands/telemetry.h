// Telemetry: what the GPUs of a run say of themselves while it goes on. A thread asks them every log.gpu_seconds, so
// that no step waits for a driver.
#pragma once

#include "commands/run.h"
#include "runtime/json.h"

// Of a run whose backend is open; all ranks come here. The first rank of each machine watches the GPUs of those that
// run there. NULL on all others, and where there is nothing to watch: device=cpu, log.gpu_seconds=0. All calls take
// NULL, and then know nothing.
Telemetry *telemetry_begin(Run *run);
// The joules that the processes before this one spent on the run: gpu_energy goes on from there.
void telemetry_go_on(Telemetry *telemetry, double joules);
void telemetry_end(Telemetry *telemetry); // soon, even if the driver answers no more

// Adds what the newest look at the GPUs gave, all of them together, where there was one since the last call: gpu_power,
// gpu_temperature, gpu_clock, gpu_memory, gpu_utilization, gpu_energy, gpu_throttle. A number that one of them does not
// tell is left out. What the thread has to say goes to the console.
void telemetry_json(Telemetry *telemetry, JsonWriter *writer);

// Looks once more and waits a moment for it. Joules since telemetry_begin; NaN: not known.
double telemetry_energy(Telemetry *telemetry);
// The same, and the seconds that the look took the thread; NaN: there was none.
double telemetry_look_seconds(Telemetry *telemetry);
