;; ends: Timeout
(func $attack
  (loop $l (block $b (if (i32.const 1) (then (br $l))))))
