"""Exact denoisers: E[x_0 | x_t] of Gaussian fields and of mixtures of them (Eq. 7).

No network is trained, so nothing here has training error. Images have the shape (N, C, H, W), float64; alpha is one
number in [0, 1], the signal power of Eq. (1).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from reschrom._arrays import (
    Images,
    finite,
    numpy_array,
    one_signal_power,
    refuse_as_in_files,
    shape_told,
    signal_power,
    whole_number,
)
from reschrom._extras import naming_extra
from reschrom.denoisers._images import LEAST_NOISE, known_generator, noise_power, noised_images
from reschrom.theory.bands import Size, band_sizes, bands, cell_pixels, depth, from_bands, sides


class GaussianField:
    """Images whose resolution bands are independent Gaussian noise, each band with its own strength: exact Eq. (7).

    Parameters
    ----------
    spectrum : array, shape (levels + 1,) or (levels + 1, C, C)
        Variance per coefficient of every band, finest first; or the covariance of the channels in every band. Zero
        variance is allowed, a negative one raises ValueError.
    mean : array, shape (C, H, W), or float
        The mean image, or one number for all pixels. Shapes that do not fit raise ValueError.
    channels : int
        How many, when the spectrum and the mean do not say.
    size : int or (height, width), optional
        Of the images, when the mean does not say; 2^levels pixels square unless given.

    Examples
    --------
    >>> import numpy as np
    >>> from reschrom import GaussianField
    >>> field = GaussianField([1.0, 4.0], channels=1)  # 2x2 pixels
    >>> field.denoise(np.ones((1, 1, 2, 2)), alpha=0.5).round(3).tolist()
    [[[[1.131, 1.131], [1.131, 1.131]]]]
    """

    def __init__(
        self, spectrum: ArrayLike, mean: ArrayLike | float = 0.0, channels: int = 3, size: Size | None = None
    ) -> None:
        spectrum, mean = (numpy_array(each).astype(np.float64, copy=False) for each in (spectrum, mean))
        whole_number("the number of channels", channels, least=1)
        if spectrum.ndim not in (1, 3):
            raise ValueError(
                f"a spectrum holds one variance, or one covariance of the channels, per band; got {spectrum.shape}"
            )
        if size is None:
            size = mean.shape[-2:] if mean.ndim == 3 else 2 ** max(len(spectrum) - 1, 0)
        height, width = sides(size)
        channels = mean.shape[0] if mean.ndim else spectrum.shape[-1] if spectrum.ndim == 3 else channels
        if spectrum.ndim == 1:
            spectrum = spectrum[:, None, None] * np.eye(channels)
        if (
            len(spectrum) != depth(size) + 1
            or spectrum.shape[1:] != (channels, channels)
            or mean.shape not in ((), (channels, height, width))
        ):
            raise ValueError(
                f"a field of {height}x{width} pixels and {channels} channels needs one variance or one {channels}x"
                f"{channels} covariance for each of its {depth(size) + 1} bands, and a mean image of its size; got "
                f"{spectrum.shape}, {mean.shape}"
            )
        if not np.allclose(spectrum, spectrum.swapaxes(1, 2), equal_nan=True):
            raise ValueError("the covariances of channels must be symmetric")
        finite("the mean image", mean)
        # Each band in the channel directions in which it is uncorrelated.
        variances, self._directions = np.linalg.eigh(np.nan_to_num(spectrum))
        if not np.all(np.isfinite(spectrum)) or np.any(variances < -1e-12 * variances.max()):
            raise ValueError("the variances of a Gaussian field must be numbers, none of them negative")
        self._variances = np.maximum(variances, 0)
        self._sizes = np.array(band_sizes(size))
        self._mean = bands(np.broadcast_to(mean, (channels, height, width)))
        self.mean = from_bands(self._mean)

    @classmethod
    def fit(cls, images: Images, colour: bool = False) -> "GaussianField":
        """Return the field with the mean image and the band spectrum of two or more images.

        With `colour` the covariance of the channels in every band is measured, otherwise only their mean variance.
        """
        images = numpy_array(images)
        covariance = channel_covariance(images)
        spectrum = covariance if colour else np.trace(covariance, axis1=1, axis2=2) / images.shape[1]
        return cls(spectrum, images.mean(axis=0))

    @property
    def spectrum(self) -> Float[np.ndarray, " bands"]:
        """The variance per coefficient of every band, finest first, averaged over channels."""
        return self._variances.mean(axis=1)

    def denoise(self, x_t: Images, alpha: float) -> Images:
        """Return E[x_0 | x_t] of Eq. (7): the mean, plus every band of the rest times its Wiener gain.

        x_t has the shape (N, C, H, W), and alpha, its signal power, is one number in [0, 1].
        """
        return from_bands(self._denoise(bands(noised_images(x_t, self.mean.shape)), one_signal_power(alpha)))

    def losses(self, alpha: ArrayLike) -> Float[np.ndarray, "bands *alphas"]:
        """Return the band-resolved mmse in closed form, `n_m S (1 - alpha) / (alpha S + 1 - alpha)` over channels.

        alpha may have any shape; the result has the bands, finest first, as its first axis.
        """
        alpha = np.asarray(signal_power(alpha)[0])[..., None]
        noise = np.maximum(1 - alpha, LEAST_NOISE)
        return np.stack(
            [n * (s * noise / (alpha * s + noise)).sum(-1) for n, s in zip(self._sizes, self._variances, strict=True)]
        )

    def sample(self, count: int, generator: np.random.Generator) -> Images:
        """Draw images from the field."""
        count = whole_number("the number of images", count)
        white = bands(known_generator(generator).standard_normal((count, *self.mean.shape)))
        coloured = [
            _mix(directions * np.sqrt(variances), b)
            for b, variances, directions in zip(white, self._variances, self._directions, strict=True)
        ]
        return self.mean + from_bands(coloured)

    def _denoise(self, noised: list[np.ndarray], alpha: float) -> list[np.ndarray]:
        noise = max(1 - alpha, LEAST_NOISE)
        gains = np.sqrt(alpha) * self._variances / (alpha * self._variances + noise)
        return [
            mean + _mix((directions * gain) @ directions.T, b - np.sqrt(alpha) * mean)
            for b, mean, gain, directions in zip(noised, self._mean, gains, self._directions, strict=True)
        ]

    def _precision(
        self, band: int, alphas: Float[np.ndarray, " alphas"]
    ) -> Float[np.ndarray, "alphas channels channels"]:
        """Return the inverse covariance of the channels in one band of noised images."""
        variances = np.multiply.outer(alphas, self._variances[band]) + np.maximum(1 - alphas, LEAST_NOISE)[:, None]
        return (self._directions[band] / variances[:, None]) @ self._directions[band].T

    def _log_density(self, noised: list[np.ndarray], alpha: float) -> np.ndarray:
        """Return the log density of noised images, in nats, up to a constant that all fields share."""
        variances = alpha * self._variances + max(1 - alpha, LEAST_NOISE)
        total = np.zeros(len(noised[0]))
        for m, (b, mean) in enumerate(zip(noised, self._mean, strict=True)):
            rest = _mix(self._directions[m].T, b - np.sqrt(alpha) * mean)
            energy = np.einsum("ncij,ncij->nc", cell_pixels(self.mean.shape[1:], m) * rest, rest)
            total -= (energy / variances[m] + self._sizes[m] * np.log(variances[m])).sum(axis=-1) / 2
        return total


class GaussianMixture:
    """Images of several classes, each class a Gaussian field.

    fields: one field per class, all of one shape.
    weights: the share of each class; equal unless given.
    """

    def __init__(self, fields: Sequence[GaussianField], weights: ArrayLike | None = None) -> None:
        shapes = {field.mean.shape for field in fields}
        if len(shapes) != 1:
            raise ValueError(f"a mixture needs one or more fields of one shape; got {sorted(shapes)}")
        weights = np.full(len(fields), 1 / len(fields)) if weights is None else numpy_array(weights).astype(np.float64)
        if weights.shape != (len(fields),) or not np.all(weights > 0) or not np.isclose(weights.sum(), 1):
            raise ValueError(
                f"a mixture of {len(fields)} fields needs as many positive weights of sum 1; got {weights}"
            )
        self.fields, self.weights = list(fields), weights

    @classmethod
    @naming_extra("GaussianMixture.fit")
    def fit(cls, images: Images, classes: int, generator: np.random.Generator) -> "GaussianMixture":
        """Sort images, two or more for each class, into classes that are fields with colour.

        From two starts, k-means of the pixels and of the energies of bands, each image moves up to eight times to the
        field that fits it best; the likelier end is returned.
        """
        from sklearn.cluster import KMeans

        images, generator = numpy_array(images), known_generator(generator)
        if images.ndim != 4:
            raise ValueError(f"a mixture is fitted to images, shape (N, C, H, W); got {shape_told(images)}")
        if whole_number("the number of classes", classes) < 1 or len(images) < 2 * classes:
            raise ValueError(f"each class needs two or more images; got {len(images)} images for {classes} classes")
        finite("images", images)
        refuse_as_in_files(images)
        energies = np.stack([np.square(b).mean(axis=(-2, -1)) for b in bands(images - images.mean(axis=0))], axis=-1)
        # The log of a mean of n squares has the standard deviation sqrt(2 / n): so all bands scatter alike.
        scattered = np.sqrt(np.array(band_sizes(images.shape[-2:])) / 2) * np.log(energies + LEAST_NOISE)
        ends, noised = [], bands(images)
        for features in (images, scattered):
            kinds = KMeans(classes, n_init=4, random_state=int(generator.integers(2**31)))
            labels = kinds.fit_predict(features.reshape(len(images), -1))
            for _ in range(8):
                sizes = np.bincount(labels)
                kept = np.flatnonzero(sizes > 1)  # one image alone is no field
                fields = [GaussianField.fit(images[labels == k], colour=True) for k in kept]
                mixture = cls(fields, sizes[kept] / sizes[kept].sum())
                logs, before = mixture._logs(noised, 1.0), labels
                labels = logs.argmax(axis=0)
                if np.array_equal(labels, before):
                    break
            ends.append((logs.max(axis=0).sum(), mixture))
        return max(ends, key=lambda end: end[0])[1]

    def responsibilities(self, x_t: Images, alpha: float) -> Float[np.ndarray, "classes images"]:
        """Return the probability of each class given the noised image."""
        return self._responsibilities(self._noised(x_t), one_signal_power(alpha))

    def denoise(self, x_t: Images, alpha: float) -> Images:
        """Return E[x_0 | x_t] with the class unknown: the estimates of the classes, weighted by their probability."""
        noised, alpha = self._noised(x_t), one_signal_power(alpha)
        shares = self._responsibilities(noised, alpha)[..., None, None, None]
        estimates = [field._denoise(noised, alpha) for field in self.fields]
        return from_bands(
            [sum(s * e for s, e in zip(shares, band, strict=True)) for band in zip(*estimates, strict=True)]
        )

    def guidance(self, x_t: Images, alpha: float, label: int) -> Images:
        """Return the guidance term `eps(x_t, t; c) - eps(x_t, t)` of Eqs. (5) and (19) for one class.

        alpha: signal power below 1.
        """
        field_of_class = self._field(label)
        noise, noised = noise_power(alpha), self._noised(x_t)
        shares = self._responsibilities(noised, alpha)
        own = field_of_class._denoise(noised, alpha)
        # Differences first: the sum keeps its precision when the class is almost certain and guidance almost gone.
        difference = [np.zeros_like(b) for b in own]
        for share, field in zip(shares, self.fields, strict=True):
            if field is not field_of_class:
                for total, other, mine in zip(difference, field._denoise(noised, alpha), own, strict=True):
                    total += share[:, None, None, None] * (other - mine)
        return np.sqrt(alpha / noise) * from_bands(difference)

    def guidance_energies(
        self,
        label: int,
        alphas: Float[np.ndarray, " alphas"],
        moments: Float[np.ndarray, "classes classes alphas"] | None = None,
    ) -> Float[np.ndarray, "bands alphas"]:
        """Return the expected band energies of the guidance term, Eq. (19), over noised images of one class.

        Exact when the probabilities of the classes do not depend on the image, as at high noise.

        alphas: signal powers.
        moments: mean products of the probabilities of every two classes given the image; of `weights` unless given.
        """
        own, alphas = self._field(label), signal_power(alphas)[0]
        prior = np.multiply.outer(np.outer(self.weights, self.weights), np.ones(len(alphas)))
        moments = prior if moments is None else moments
        if moments.shape != prior.shape:
            raise ValueError(f"mean products of probabilities have the shape {prior.shape}; got {moments.shape}")
        energies = []
        for m in range(len(own.spectrum)):
            precisions = np.stack([field._precision(m, alphas) for field in self.fields], axis=1)
            products = self._of_spectra(label, m, precisions)
            products += alphas[:, None, None] * self._of_means(label, m, precisions)
            energies.append((1 - alphas) * np.einsum("klt,tkl->t", moments, products))
        return np.stack(energies)

    # With Q_k the inverse covariance of x_t in class k, the guidance term of class c is, up to sqrt(1 - alpha),
    #   sum_k p_k [(Q_c - Q_k) (x_t - sqrt(alpha) mu_c) - sqrt(alpha) Q_k (mu_c - mu_k)].
    # In class c the first bracket has mean 0 and x_t the covariance Q_c^-1. So the mean product of the brackets of two
    # classes is a part of the spectra plus alpha times a part of the means.

    def _of_means(self, label: int, band: int, precisions: np.ndarray) -> Float[np.ndarray, "alphas classes classes"]:
        """Return the inner products of `Q_k (mu_c - mu_k)` in a band, for every two classes."""
        means = np.stack([field._mean[band] for field in self.fields])
        pixels = cell_pixels(self.fields[label].mean.shape[1:], band)
        flat = (np.sqrt(pixels) * (means[label] - means)).reshape(-1, means[0][0].size)
        # Pictures enter by the products of their channels alone, which are the same for every alpha.
        products = (flat @ flat.T).reshape(*means.shape[:2], *means.shape[:2])
        return np.einsum("tkab,kbld,tlad->tkl", precisions, products, precisions, optimize=True)

    def _of_spectra(self, label: int, band: int, precisions: np.ndarray) -> Float[np.ndarray, "alphas classes classes"]:
        """Return the traces of `(Q_c - Q_k) Q_c^-1 (Q_c - Q_l)` in a band, for every two classes."""
        changes = precisions[:, [label]] - precisions
        back = np.linalg.solve(precisions[:, [label]], changes)
        return self.fields[label]._sizes[band] * np.einsum("tkab,tlba->tkl", changes, back, optimize=True)

    def sample(self, count: int, generator: np.random.Generator) -> Images:
        """Draw images: first a class for each, then the image."""
        count = whole_number("the number of images", count)
        labels = known_generator(generator).choice(len(self.fields), size=count, p=self.weights)
        images = np.empty((count, *self.fields[0].mean.shape))
        for label, field in enumerate(self.fields):
            images[labels == label] = field.sample(int((labels == label).sum()), generator)
        return images

    def _field(self, label: int) -> GaussianField:
        if isinstance(label, bool) or label not in range(len(self.fields)):
            raise ValueError(f"the mixture has the classes 0 to {len(self.fields) - 1}; got {label}")
        return self.fields[label]

    def _noised(self, x_t: Images) -> list[np.ndarray]:
        return bands(noised_images(x_t, self.fields[0].mean.shape))

    def _responsibilities(self, noised: list[np.ndarray], alpha: float) -> np.ndarray:
        return _softmax(self._logs(noised, alpha))

    def _logs(self, noised: list[np.ndarray], alpha: float) -> np.ndarray:
        logs = np.stack([field._log_density(noised, alpha) for field in self.fields])
        return logs + np.log(self.weights)[:, None]


def channel_covariance(images: Images) -> Float[np.ndarray, "bands channels channels"]:
    """Estimate the covariance of the channels in every band of two or more images, about their mean, unbiased.

    Its trace divided by the number of channels is `band_spectrum`.
    """
    images = numpy_array(images)
    if images.ndim != 4 or len(images) < 2 or not images.shape[1]:
        raise ValueError(f"a spectrum needs two or more images, shape (N, C, H, W); got {shape_told(images)}")
    finite("images", images)
    refuse_as_in_files(images)
    size = images.shape[-2:]
    pyramid = zip(bands(images - images.mean(axis=0)), band_sizes(size), strict=True)
    return np.stack(
        [
            np.einsum("ncij,ndij->cd", cell_pixels(size, m) * b, b, optimize=True) / (count * (len(images) - 1))
            for m, (b, count) in enumerate(pyramid)
        ]
    )


def _mix(matrix: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Multiply the channels of images (N, C, h, w) with a matrix."""
    diagonal = matrix.diagonal()
    if np.count_nonzero(diagonal) == np.count_nonzero(matrix):  # channels that do not mix are several times cheaper
        return images * diagonal[:, None, None]
    count, channels, height, width = images.shape
    return (matrix @ images.reshape(count, channels, height * width)).reshape(images.shape)


def _softmax(logs: np.ndarray) -> np.ndarray:
    from scipy.special import softmax

    return softmax(logs, axis=0)
