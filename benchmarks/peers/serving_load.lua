-- wrk's script: sends the bodies of a file in turn, as fast as answers come or by a timetable, and prints one JSON line.
-- Arguments: the path asked, the file with a body a line, and requests a second (0: as fast as answers come).
-- By a timetable every connection takes the next free place in it; none waits for another's answer.

local ffi = require("ffi")
ffi.cdef("typedef struct { long seconds; long nanoseconds; } moment; int clock_gettime(int clock, moment *found);")
local MONOTONIC = 1

local found = ffi.new("moment")
local requests, at = {}, 0
local begun, taken, every_us = nil, 0, 0
local due, first, last = {}, 1, 0
-- How long after its place in the timetable each request was sent, counted by tenths of a millisecond.
late, sent = {}, 0

local function now_us()
  ffi.C.clock_gettime(MONOTONIC, found)
  return tonumber(found.seconds) * 1e6 + tonumber(found.nanoseconds) / 1e3
end

local function wait_for_place()
  local now = now_us()
  begun = begun or now
  local place = begun + taken * every_us
  taken, last = taken + 1, last + 1
  due[last] = place
  -- wrk waits whole milliseconds, so that requests leave up to one early or late.
  return math.max(0, (place - now) / 1e3)
end

local function note_lateness()
  if first > last then return end
  local tenths = math.max(0, math.floor((now_us() - due[first]) / 100))
  due[first], first = nil, first + 1
  late[tenths], sent = (late[tenths] or 0) + 1, sent + 1
end

function init(arguments)
  for body in io.lines(arguments[2]) do
    requests[#requests + 1] = wrk.format("POST", arguments[1], { ["Content-Type"] = "application/json" }, body)
  end
  local rate = tonumber(arguments[3])
  if rate > 0 then
    every_us = 1e6 / rate
    delay = wait_for_place
  end
end

function request()
  note_lateness()
  at = at % #requests + 1
  return requests[at]
end

local thread

function setup(made)
  thread = made
end

local function late_ms(part)
  local counts, tenths = thread:get("late"), {}
  for tenth in pairs(counts) do tenths[#tenths + 1] = tenth end
  table.sort(tenths)
  local left = thread:get("sent") * part
  for _, tenth in ipairs(tenths) do
    left = left - counts[tenth]
    if left <= 0 then return tenth / 10 end
  end
  return 0
end

function done(summary, latency)
  local errors = summary.errors
  local failures = errors.connect + errors.read + errors.write + errors.timeout + errors.status
  io.write(string.format(
    '\n{"requests":%d,"failures":%d,"seconds":%.6f,"p50_ms":%.3f,"p99_ms":%.3f,"slowest_ms":%.3f,' ..
    '"late_p99_ms":%.1f,"late_most_ms":%.1f}\n',
    summary.requests, failures, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    latency.max / 1e3, late_ms(0.99), late_ms(1)))
end
