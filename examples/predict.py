"""Predict when each resolution is generated, from the noise schedule alone. The base install is enough."""

from reschrom import Chromatogram, Schedule, matched_time

schedule = Schedule.cosine()
predicted = Chromatogram.predicted(schedule, 64, name="cosine schedule")

print("generated on average at time (1 is noise, 0 is the image):")
for name, time in zip(predicted.band_names, predicted.centroids(), strict=True):
    print(f"  {name:>5}  {time:.2f}")
print(f"half-way, a 32x32 model sees this noise at time {matched_time(schedule, 0.5, level=1):.3f}")

predicted.plot().savefig("predicted.png")
