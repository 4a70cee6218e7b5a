;; ends: Trap
(func $attack
  unreachable)
