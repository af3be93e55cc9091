;; call run: cpu_exhausted
;; limits: fuel 10000000000 cpu_ms 20
(module
  (memory (export "memory") 1)
  (func (export "run") (result i32)
    (loop $forever (br $forever))
    (i32.const 0)))
