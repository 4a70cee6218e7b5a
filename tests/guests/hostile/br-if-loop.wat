;; ends: Timeout
(func $attack
  (loop $l (br_if $l (i32.const 1))))
